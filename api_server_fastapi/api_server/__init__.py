"""A FastAPI foundation that any service can stand on: see `Application` and `create_app`."""
