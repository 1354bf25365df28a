"""An embedded platform that answers the NeMo Microservices REST APIs on one machine.

Covered:     Data Store, Entity Store, Customizer, Evaluator, Guardrails, Deployment Management
             and an OpenAI-compatible endpoint; each service folder opens with its own boundary.
Not covered: clusters, users and roles, the v2 APIs.
Differs:     one control-plane process, one inference process, one child process per training run.
Source:      https://docs.nvidia.com/nemo/microservices/latest/
"""

__version__ = "0.1.0"
