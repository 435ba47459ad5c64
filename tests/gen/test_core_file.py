def test_core_lists_the_files_of_the_build(small_build):
    text = (small_build / "compact.core").read_text()
    assert text.startswith("CAPI=2:\n")
    assert 'name: "::compact:0"' in text
    listed = [line.split("- ")[1].split(":")[0] for line in text.splitlines() if "      - " in line]
    files = [name for name in listed if "." in name]
    assert files[:2] == ["compact.v", "lmht_ram.v"]
    assert all((small_build / name).is_file() for name in files)
    assert set(files) == {
        path.relative_to(small_build).as_posix()
        for path in small_build.rglob("*")
        if path.suffix in (".v", ".h", ".hex", ".bin")
    }
