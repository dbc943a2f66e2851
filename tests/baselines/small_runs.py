"""Runs of a comparison that take a second."""

from baselines.policies import parse_policy
from baselines.running import run_missing
from baselines.running_options import RunningOptions
from tests.tiegym.analysis.made_up import ENV
from tests.tiegym.small import SMALL

ARGUMENTS = [f"--env.{key.replace('_', '-')}={value}" for key, value in SMALL.items()]


def small(tmp_path, **options):
    return RunningOptions(tmp_path, quiet=True, **options)


def run(tmp_path, *policies, **options):
    made = [parse_policy(policy, ENV) for policy in policies]
    run_missing(made, [0], small(tmp_path, **options))
    return [policy.folder(tmp_path, 0) for policy in made]
