"""Published weights that a network can start from."""

from cmw_pipeline.config.contracts import Pretrained as Files
from cmw_pipeline.config.pretrained import Pretrained
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.checkpoints import read_state_dict, save_tensors
from cmw_pipeline.io.download import fetch
from cmw_pipeline.io.manifests import file_entry


def write_pretrained(published: Pretrained, asked: Asked) -> Notes:
    """Write the weights of the trunk, without those of the output layers, as ``weights.safetensors``.

    Raises:
        ConfigError: no such file at hand.
        IntegrityError: not the published weights, or no file of weights.
        SystemFault: the file cannot be fetched, read or written.
    """
    if asked.local is None:
        file = asked.downloads / published.url.rpartition("/")[2]
        origin = fetch([published.url], published.sha256, file)
    else:
        file, origin = asked.local, asked.local.resolve().name
        if not file.is_file():
            raise ConfigError(f"{file}: no such file")
    found = file_entry(file)["sha256"]
    problem = f"not the published weights: its sha256 is {found}; expected {published.sha256}"
    notes = asked.verified(file, problem if found != published.sha256 else None)
    tensors = read_state_dict(file)
    save_tensors(
        asked.out / Files.WEIGHTS, {n: t for n, t in tensors.items() if not n.startswith("classifier.")}
    )
    return notes | {"origin": origin}
