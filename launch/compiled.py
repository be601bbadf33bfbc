"""Where the fits' compiled programs are kept between commands."""

import os
from pathlib import Path


def keep() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR or a caller named another."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(root / "ladder" / "compiled"))
    # The default, one second, would leave out half of what a fit compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
