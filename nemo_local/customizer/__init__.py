"""Customizer: fine-tuning jobs, and the configurations and targets they start from.

Covered:     jobs (create, list, get, status, cancel, logs, delete), configs and targets (CRUD),
             training types sft, dpo and distillation, each of an adapter, of an adapter that is
             merged, or of all weights; chat, tool-calling, prompt/completion and preference
             rows; live status with loss series, best checkpoint, early stopping, resuming after
             a crash of the platform; Weights & Biases (offline without a key), TensorBoard,
             MLflow when the platform has its URI; targets from `hf://`, and with special tokens of
             their own (`tokenizer.additional_special_tokens`, `tokenizer.eos_token`); several GPUs
             and machines (DDP, FSDP, ZeRO).
Not covered: grpo, p-tuning, checkpoints from `ngc://`, other overrides of the tokenizer, precisions
             below 16 bits, and ZeRO for dpo: refused by name. Tensor and pipeline parallelism: the
             job goes on without and says so in `warnings`.
Differs:     one training at a time, in a child process of this machine; `percentage_done` counts
             steps, not epochs; a second job for an existing model is a 409, not a 500.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/customizer.html
"""
