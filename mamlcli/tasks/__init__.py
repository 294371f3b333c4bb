"""What tasks are: samples, families of tasks (one file each), and the stream that says which belong to a step."""
