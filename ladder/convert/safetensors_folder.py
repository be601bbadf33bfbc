"""Read the tensors of a folder of safetensors files, any part of one at a time."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ladder.errors import InputError

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Tensors:
    """The tensors of model.safetensors, or of the files that model.safetensors.index.json names.

    shapes, dtypes: by tensor; dtypes are values of DTYPES. files: those that hold the tensors.
    """

    def __init__(self, folder: Path):
        """Raises InputError where files are missing or damaged, or hold another type than those of DTYPES."""
        self.files = _files(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._file_of: dict[str, Path] = {}
        for path in self.files:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 (not a dictionary)
                    self._add(path, name, file.get_slice(name))

    def _add(self, path: Path, name: str, tensor) -> None:
        if name in self._file_of:
            raise InputError(f"{path}: its tensor {name} is also in {self._file_of[name].name}; remove one")
        if tensor.get_dtype() not in DTYPES:
            known = ", ".join(DTYPES.values())
            raise InputError(f"{path}: its tensor {name} is {tensor.get_dtype()}; only {known} can be read")
        self._file_of[name], self.shapes[name] = path, tuple(tensor.get_shape())
        self.dtypes[name] = DTYPES[tensor.get_dtype()]

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """The part `index` of a tensor, in the type in which it is stored.

        The file is opened for each part: what an open file has read would count as memory of this process.
        """
        with _opened(self._file_of[name]) as file:
            return file.get_slice(name)[index]


def _files(folder: Path) -> list[Path]:
    """The files of a folder, each there."""
    if (folder / INDEX).exists():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
            files = [folder / name for name in names]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{folder / INDEX}: not an index of safetensors files; download it again") from None
        for path in files:
            if not path.is_file():
                raise InputError(f"{path}: not there, but {INDEX} names it; download it")
        return files
    if (folder / ONE_FILE).is_file():
        return [folder / ONE_FILE]
    pickled = next((path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(pattern))), None)
    mend = f"; {pickled} is not read, because it can run code: save the model as safetensors" if pickled else ""
    raise InputError(f"{folder}: has no {ONE_FILE} and no {INDEX}{mend}")


def _opened(path: Path):
    try:
        return safe_open(path, "numpy")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a safetensors file, or truncated ({reason})") from None
