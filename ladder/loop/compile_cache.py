"""The cache of compiled programs on disk."""

import os
from pathlib import Path

import jax


def keep(directory=None) -> None:
    """Cache compiled programs in `directory`; by default, in the user's cache folder.

    A directory set by JAX_COMPILATION_CACHE_DIR or by an earlier call takes precedence.
    """
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(directory or home / "ladder" / "compiled"))
    # JAX's defaults skip programs that compile in less than a second: most of those of a small model or a fit.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
