"""The contract, enforced: what a record is, who may read it, and how it travels. Opens no broker connection."""
