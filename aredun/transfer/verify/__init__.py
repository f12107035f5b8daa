"""Verification: every hash that can be computed without running a pickle, and every reference, is checked."""

from aredun.transfer.verify.report import Problem, VerifyReport
from aredun.transfer.verify.repository import verify_repository

__all__ = ["Problem", "VerifyReport", "verify_repository"]
