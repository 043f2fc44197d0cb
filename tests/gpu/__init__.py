"""What only an NVIDIA GPU can show. Skipped elsewhere; `python -m tools.gpu_check` runs it where there is one."""
