"""The measurements that qanat is held to, with the engines it is compared with. Not part of the installed package."""
