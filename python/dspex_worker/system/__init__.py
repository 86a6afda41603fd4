"""What a worker is as a process: its sandbox, its threads, its log, and what it leaves behind."""
