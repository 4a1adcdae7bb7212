"""Object storage: `s3://`, `gs://` and `az://`, through obstore (extra `objects`)."""
