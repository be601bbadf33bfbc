"""A fake Cloud TPU API over gRPC in this process for queued resources only; it fails if told."""

from concurrent import futures

import grpc
from google.cloud import tpu_v2 as api
from google.cloud.tpu_v2.services.tpu.transports import TpuGrpcTransport
from google.longrunning import operations_pb2

STATES = api.QueuedResourceState.State


class Server(grpc.GenericRpcHandler):
    """resources: id -> QueuedResource. faults: what the next calls meet, in order: a grpc.StatusCode, or "lost": done,
    and answered with UNAVAILABLE. created, deleted: ids in order."""

    def __init__(self):
        self.resources, self.faults, self.created, self.deleted = {}, [], [], []
        self.grpc = grpc.server(futures.ThreadPoolExecutor(2))
        self.grpc.add_generic_rpc_handlers((self,))
        port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.client = api.TpuClient(transport=TpuGrpcTransport(channel=self.channel))

    def close(self):
        self.channel.close()
        self.grpc.stop(None)

    def service(self, details):
        method = getattr(self, details.method.rpartition("/")[2])
        kinds = {
            "CreateQueuedResource": api.CreateQueuedResourceRequest,
            "ListQueuedResources": api.ListQueuedResourcesRequest,
            "DeleteQueuedResource": api.DeleteQueuedResourceRequest,
        }
        kind = kinds[details.method.rpartition("/")[2]]

        def call(raw, context):
            fault = self.faults.pop(0) if self.faults else None
            if isinstance(fault, grpc.StatusCode):
                context.abort(fault, "a bad day")
            answer = method(kind.deserialize(raw), context)
            if fault == "lost":
                context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            return answer

        return grpc.unary_unary_rpc_method_handler(call, lambda raw: raw, lambda answer: answer)

    def CreateQueuedResource(self, request, context):
        name = request.queued_resource_id
        if name in self.resources:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, name)
        resource = api.QueuedResource(request.queued_resource)
        resource.name = f"{request.parent}/queuedResources/{name}"
        resource.state = api.QueuedResourceState(state=STATES.WAITING_FOR_RESOURCES)
        self.resources[name] = resource
        self.created.append(name)
        return operations_pb2.Operation(name="o").SerializeToString()

    def ListQueuedResources(self, request, context):
        names = sorted(self.resources)
        first = int(request.page_token or 0)
        more = str(first + request.page_size) if first + request.page_size < len(names) else ""
        page = [self.resources[name] for name in names[first : first + request.page_size]]
        return api.ListQueuedResourcesResponse.serialize(
            api.ListQueuedResourcesResponse(queued_resources=page, next_page_token=more)
        )

    def DeleteQueuedResource(self, request, context):
        name = request.name.rpartition("/")[2]
        if name not in self.resources:
            context.abort(grpc.StatusCode.NOT_FOUND, name)
        if not request.force:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "has nodes")
        del self.resources[name]
        self.deleted.append(name)
        return operations_pb2.Operation(name="o").SerializeToString()

    def becomes(self, name, state, message=""):
        self.resources[name].state = api.QueuedResourceState(state=STATES[state])
        if message:
            self.resources[name].state.failed_data.error.message = message
