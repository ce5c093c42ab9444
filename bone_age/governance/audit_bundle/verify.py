"""Checks this audit bundle with nothing but Python (3.9 or later): python verify.py [BUNDLE.zip or its folder].

Three questions, one line for each finding, exit code 1 where there is one:
1. Are the files those that SHA256SUMS lists, all of them and no other?
2. Is the ledger extract a chain from its first entry to the one it says is the last?
3. Do model, evidence, data set and policies have the digests that the ledger's entries name?

Whoever replaces the whole bundle, chain included, is found by comparing the last entry, which is printed, with the
ledger itself, or with a bundle that was handed out before: --holds NUMBER:DIGEST asks for an entry seen there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any, Iterator  # noqa: UP035 (this file runs on older Pythons than the package)

SUMS = "SHA256SUMS"
NOT_INCLUDED = ("model.onnx", "model.keras")
NOT_HASHED = ("digest", "signature")
JUDGED = ("gates", "rejected", "overridden", "promoted")  # events whose policy was kept before they were recorded


def main() -> int:
    """Print the findings; 0 where there is none."""
    parser = argparse.ArgumentParser(description="Check an audit bundle.")
    parser.add_argument("bundle", nargs="?", default=str(Path(__file__).resolve().parent), help="ZIP file or folder")
    parser.add_argument("--holds", metavar="NUMBER:DIGEST", help="an entry that the ledger extract has to hold")
    given = parser.parse_args()
    try:
        files, found = read(Path(given.bundle))
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        print(f"{given.bundle}: cannot be read as a bundle: {error}")
        return 1
    entries, chain = read_entries(files)
    found = [*found, *check_sums(files), *chain, *check_extract(files, entries)]
    found += check_bindings(files, entries)
    if given.holds and given.holds not in {f"{e.get('number')}:{e.get('digest')}" for e in entries}:
        found.append(f"ledger/entries.jsonl: holds no entry {given.holds}")
    for line in found:
        print("".join(c if c.isprintable() else "?" for c in line))
    last = f"{entries[-1].get('number')}:{entries[-1].get('digest')}" if entries else "none"
    verdict = f"{len(found)} findings" if found else f"nothing amiss in {len(files)} files"
    print(f"{verdict}; the last ledger entry is {last}")
    signed = sum(bool(entry.get("signature")) for entry in entries)
    if signed:
        print(f"note: {signed} entries are signed (Ed25519); signatures are not checked here")
    return 1 if found else 0


def read(place: Path) -> tuple[dict[str, bytes], list[str]]:
    """Content by path, and what is odd about the paths themselves."""
    files: dict[str, bytes] = {}
    odd: list[str] = []
    if place.is_dir():
        for folder, folders, names in os.walk(place):
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            for name in sorted([*names, *links]):
                file = Path(folder) / name
                path = file.relative_to(place).as_posix()
                if file.is_symlink() or not file.is_file():
                    odd.append(f"{path}: is not a plain file")
                else:
                    files[path] = file.read_bytes()
        return files, odd
    with zipfile.ZipFile(place) as archive:
        for member in archive.infolist():
            path = member.filename
            if path in files:
                odd.append(f"{path}: is in the archive twice")
            if path.startswith("/") or ".." in path.split("/") or "\\" in path:
                odd.append(f"{path}: leads out of the folder")
            try:
                files[path] = archive.read(member)
            except Exception as error:  # whatever a damaged archive makes the decoder say
                odd.append(f"{path}: is damaged: {error}")
                files[path] = b""
    return files, odd


def check_sums(files: dict[str, bytes]) -> Iterator[str]:
    """Every file against its SHA-256, and the list against the files."""
    if SUMS not in files:
        yield f"{SUMS}: is missing"
        return
    listed: dict[str, str] = {}
    for line in files[SUMS].decode("utf-8", "replace").splitlines():
        digest, two_spaces, path = line.partition("  ")
        if not two_spaces or path in listed:
            yield f"{SUMS}: has a line that it cannot have: {line[:100]}"
        listed[path] = digest
    for path in sorted(set(listed) | set(files) - {SUMS}):
        if path not in files:
            yield f"{path}: is missing"
        elif path not in listed:
            yield f"{path}: is not listed in {SUMS}"
        elif sha256(files[path]) != listed[path]:
            yield f"{path}: was changed: its SHA-256 is not the one in {SUMS}"


def read_entries(files: dict[str, bytes]) -> tuple[list[dict[str, Any]], list[str]]:
    """The ledger's entries, and where their chain is broken."""
    entries: list[dict[str, Any]] = []
    found: list[str] = []
    number, previous, time = 0, "0" * 64, ""
    for line in files.get("ledger/entries.jsonl", b"").decode("utf-8", "replace").split("\n"):
        if not line:
            continue
        number += 1
        try:
            entry = json.loads(line, object_pairs_hook=unique)
            fields = {name: value for name, value in entry.items() if name not in NOT_HASHED}
            text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            digest = sha256(text.encode("utf-8"))
        except (ValueError, AttributeError, RecursionError):
            found.append(f"ledger entry {number}: is no entry")
            continue
        if entry.get("number") != number:
            found.append(
                f"ledger entry {number}: says that it is number {entry.get('number')}; one is missing or moved"
            )
        if entry.get("previous_digest") != previous:
            found.append(f"ledger entry {number}: does not follow the one before it")
        if entry.get("digest") != digest:
            found.append(f"ledger entry {number}: was edited: its digest is not that of its content")
        if str(entry.get("time")) < time:
            found.append(f"ledger entry {number}: is older than the one before it")
        previous, time = entry.get("digest"), str(entry.get("time"))
        entries.append(entry)
    return entries, found


def check_extract(files: dict[str, bytes], entries: list[dict[str, Any]]) -> Iterator[str]:
    """Does the extract end where it says it does?"""
    facts = document(files, "ledger/extract.json")
    end = (entries[-1].get("number"), entries[-1].get("digest")) if entries else (0, "")
    if (facts.get("last"), facts.get("last_digest")) != end:
        yield f"ledger/extract.json: the last entry should be {facts.get('last')}, it is {end[0]}"


def check_bindings(files: dict[str, bytes], entries: list[dict[str, Any]]) -> Iterator[str]:
    """Files against the digests in the entries about this version."""
    version = document(files, "version.json").get("version")
    if type(version) is not int:  # True and 1.0 equal 1
        yield "version.json: does not say which version this is, so that nothing binds the files to the ledger"
    own = [entry for entry in entries if type(version) is int and entry.get("version") == version]
    if type(version) is int and not any(entry.get("model_digest") for entry in own):
        yield f"version.json: says version {version}, of which the ledger names no model"
    sums = files.get("model/checksums.json", b"")
    yield from against(own, "model_digest", sha256(sums), "model/checksums.json")
    for name, digest in document(files, "model/checksums.json").items():
        path = f"model/{name}"
        if path not in files and name not in NOT_INCLUDED:
            yield f"{path}: is listed in model/checksums.json but missing"
        if path in files and sha256(files[path]) != digest:
            yield f"{path}: is not the one that model/checksums.json lists"
    evidence = files.get("evidence/SHA256SUMS")
    details = [entry["details"] for entry in own if isinstance(entry.get("details"), dict)]
    told = [one["evidence_sha256"] for one in details if one.get("evidence_sha256")]
    if told and (evidence is None or sha256(evidence) != told[-1]):
        yield "evidence/SHA256SUMS: is not the evidence that the ledger's last decision names"
    for line in (evidence or b"").decode("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        if sha256(files.get(f"evidence/{name}", b"")) != digest:
            yield f"evidence/{name}: is not the one that evidence/SHA256SUMS lists"
    manifest = "dataset/manifest.csv"
    if manifest in files:
        yield from against(own, "dataset_fingerprint", fingerprint(files[manifest]), manifest)
    for path in sorted(files):
        if path.startswith("policies/"):
            text = json.dumps(document(files, path), sort_keys=True)
            if f"policies/{sha256(text.encode())}.json" != path:
                yield f"{path}: is not the policy with that digest"
    judged = {entry.get("policy_digest"): entry.get("number") for entry in own if entry.get("event") in JUDGED}
    for digest, number in judged.items():
        if digest and f"policies/{digest}.json" not in files:
            yield f"policies/{digest}.json: is missing; ledger entry {number} names it"


def against(own: list[dict[str, Any]], field: str, digest: str, path: str) -> Iterator[str]:
    """One line for the first entry that names another digest."""
    for entry in own:
        if entry.get(field) and entry[field] != digest:
            yield f"{path}: is not what ledger entry {entry.get('number')} names as {field}"
            return


def fingerprint(manifest: bytes) -> str:
    """SHA-256 over the sorted rows' image digests and labels."""
    try:
        rows = list(csv.DictReader(io.StringIO(manifest.decode("utf-8"), newline="")))
        lines = sorted(f"{row['sha256']},{row['sex']},{float(row['bone_age_months']):.6g}" for row in rows)
    except (ValueError, KeyError, TypeError, csv.Error):
        return ""
    return sha256("\n".join(lines).encode())


def document(files: dict[str, bytes], path: str) -> dict[str, Any]:
    """A JSON object; empty where it is none, or where a key is there twice."""
    try:
        found = json.loads(files.get(path, b"{}"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`, which would keep the last of two values without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
