"""Where else a run is logged: TensorBoard, Weights & Biases and MLflow, each by a process of its own.

The run folder is the record, and a tracker a view of it: whenever one is opened it is written anew from what the folder
holds (the config, metrics.jsonl, evaluation.json, the figures), and then hears of what is new. So a resumed run has no
row twice and none of a future that was cut off, what was switched on late has the whole history, and an evaluation is
added by opening and closing it again.
"""
