"""Where compiled programs are kept between processes."""

import os
from pathlib import Path

import jax


def keep(directory=None) -> None:
    """Keep compiled programs in `directory`, by default the user's cache folder.

    A directory that JAX_COMPILATION_CACHE_DIR or an earlier call named stays.
    """
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(directory or home / "ladder" / "compiled"))
    # JAX's defaults leave out what compiles in less than a second, which is most of a small model or a fit.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
