"""What only a CPU needs; commands switch it on, and nothing else imports it."""

from cascade_jax.cpu.configuration import configure

__all__ = ["configure"]
