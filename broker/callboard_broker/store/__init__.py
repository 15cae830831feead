"""What the board keeps on disk: tables, migrations and one module of queries per noun.

Nothing in here decides *when* something is written or how long it is kept; services do.
"""
