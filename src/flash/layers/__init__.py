"""Modules that own the parameters and call the operations of ``flash.ops``."""
