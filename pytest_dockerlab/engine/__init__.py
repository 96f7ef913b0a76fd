"""The container engine: a narrow port (`base`), the real thing behind it (`docker`) and an in-memory peer (`fake`)."""
