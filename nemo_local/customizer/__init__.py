"""Customizer: fine-tuning jobs, and the configurations and targets they start from.

Covered:     jobs, configs and targets; sft, dpo and distillation that train an adapter, an adapter
             merged into its base, or all weights; trackers, downloads from a Hub, several GPUs and
             machines.
Not covered: grpo, p-tuning, precisions other than bf16-mixed, bf16 and fp32: refused by name.
Differs:     one training at a time, in a child process of this machine.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/customizer.html
"""
