"""Pages for people, in a browser. They use the API and nothing else; nothing has to be built."""

from qanat.serve.ui.mount import Facts, mount_ui

__all__ = ["Facts", "mount_ui"]
