"""Pocket world: the rows, the text and the small models that let the platform work offline.

Covered:     xLAM-format rows on demand; a base chat model and a content-safety model, trained from
             scratch by recipes kept here; weights in `weights/`, ordinary Hugging Face folders.
Not covered: knowledge of the world; languages other than a narrow English.
Differs:     about five million parameters; it stands in for a checkpoint of billions and says so.
Source:      nemo_local/pocket/weights/base/README.md, docs/decisions.md
"""
