"""One pure function a stage: verified inputs in, the files of one artefact out."""
