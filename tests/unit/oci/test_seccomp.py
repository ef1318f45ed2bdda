"""The seccomp profile: consistent for every architecture."""

from __future__ import annotations

from typing import Any

import pytest

from orca.oci import seccomp

ARCHITECTURES = ("amd64", "386", "arm64", "arm", "ppc64le", "s390x", "riscv64")
ESCAPES = (
    "mount umount2 pivot_root setns unshare bpf init_module finit_module kexec_load keyctl add_key request_key "
    "open_by_handle_at perf_event_open ptrace_not_listed reboot swapon fsopen move_mount userfaultfd clone3"
).split()


def rules(architecture: str) -> list[dict[str, Any]]:
    found = seccomp.profile(architecture)
    assert found is not None
    return list(found["syscalls"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_call_is_both_allowed_and_refused(architecture: str) -> None:
    allowed = {name for rule in rules(architecture) if "args" not in rule and "errnoRet" not in rule
               for name in rule["names"]}  # fmt: skip
    refused = {name for rule in rules(architecture) if rule["action"] == "SCMP_ACT_ERRNO" for name in rule["names"]}
    conditional = {name for rule in rules(architecture) if "args" in rule for name in rule["names"]}
    assert len(allowed) > 300 and len(refused) > 50
    assert conditional == {"personality", "clone"}
    assert not allowed & refused and not allowed & conditional and not refused & conditional


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_name_stands_twice_in_a_rule(architecture: str) -> None:
    for rule in rules(architecture):
        assert len(rule["names"]) == len(set(rule["names"]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_architecture_each_and_a_strict_default(architecture: str) -> None:
    found = seccomp.profile(architecture)
    assert found is not None and len(found["architectures"]) == 1
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)


@pytest.mark.parametrize("name", ESCAPES)
def test_ways_out_are_not_allowed(name: str) -> None:
    assert not [rule for rule in rules("amd64") if rule["action"] == "SCMP_ACT_ALLOW" and name in rule["names"]]


def test_clone_makes_no_namespace() -> None:
    # CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
    flags = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
    for architecture, index in (("amd64", 0), ("s390x", 1)):
        (rule,) = [rule for rule in rules(architecture) if rule["names"] == ["clone"]]
        assert rule["args"] == [{"index": index, "value": flags, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]


def test_clone3_is_as_if_it_did_not_exist() -> None:
    # With EPERM glibc gives up; with ENOSYS it falls back to clone.
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in rules("amd64")
