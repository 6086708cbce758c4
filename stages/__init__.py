"""One thin command per stage of dvc.yaml: read parameters, load inputs, call the library, write outputs."""
