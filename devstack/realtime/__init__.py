"""Local stand-in for Supabase Realtime: row changes only, for the embedded stack.

Changes are read from Postgres by logical replication and sent over Phoenix channels to whoever may see
the row. Broadcast and presence are accepted and not relayed. Nothing is left in the database: the
replication slot and the helper functions are temporary.
"""
