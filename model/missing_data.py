"""The error for a data set that is not in the folder: it names an archive that lies there still packed."""

from pathlib import Path

from .idx import DataError

__all__ = ["missing_data"]

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip", ".7z", ".rar")


def missing_data(data_dir: Path, wanted: str, subfolder: str) -> DataError:
    """The error for files that are neither in the folder nor in the data set's own subfolder.

    Parameters
    ----------
    data_dir : Path
        Folder that the user named.
    wanted : str
        What is missing in it.
    subfolder : str
        Name of the data set's subfolder.
    """
    packed = (
        path
        for folder in (data_dir / subfolder, data_dir)
        for path in sorted(folder.glob("*"))
        if path.name.lower().endswith(_ARCHIVES)
    )
    archive = next(packed, None)
    hint = "" if archive is None else f" ({archive} is packed: unpack it if it holds them)"
    return DataError(f"{data_dir}: no {wanted} here or in its subfolder {subfolder}{hint}")
