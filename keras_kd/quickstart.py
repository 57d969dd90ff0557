"""The first five minutes: `python -m keras_kd.quickstart`."""

from keras_kd._src.quickstart.story import main

__all__ = ["main"]


def __dir__():
    return __all__


if __name__ == "__main__":
    main()
