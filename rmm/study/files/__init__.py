"""Files of studies: YAML, schema, Parquet, environment, seeds."""
