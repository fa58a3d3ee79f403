"""The errors that users read, and the log entry for those that they should not."""

import errno
import logging
import os
import re
import secrets
import sys

log = logging.getLogger(__name__)


class UserError(Exception):
    """A request that cannot work. Its message is shown to the user; any other exception is a bug and gets logged.

    The message is one sentence or two short ones: what was seen, why it cannot work, what to do.
    """


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of an exception's text, up to `most` characters; the name of its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


FULL, FORBIDDEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}, {errno.EROFS, errno.EACCES, errno.EPERM}
#: How libraries that keep no errno say it: SQLite, safetensors and tokenizers (Rust), torch, pyarrow.
SAYS_FULL = re.compile(
    r"No space left|disk is full|quota exceeded|os error (?:28|122)\b|errno 28\b|not enough space|iostream error|"
    r"PytorchStreamWriter failed writing|inline_container.*unexpected pos",
    re.IGNORECASE,
)
SAYS_READ_ONLY = re.compile(r"Read-only file system|readonly database|os error 30\b|errno 30\b", re.IGNORECASE)


def disk_trouble(error: BaseException | None, advice: str, writing: bool = False) -> str | None:
    """Why a disk takes nothing and what to do about it, if that is behind an exception; else None.

    advice: for a full disk, beginning with "Free some space", which is replaced where that does not help. writing:
    the exception was raised by a write, so that any OSError counts.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if number := _disk_errno(error, writing):
            if number not in FULL:
                instead = "Make it writable for this user" if number in FORBIDDEN else "Check that path"
                advice = advice.replace("Free some space", instead)
            return f"{os.strerror(number)}. {advice}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _disk_errno(error: BaseException, writing: bool) -> int | None:
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return None
    if isinstance(error, OSError) and error.errno and (writing or error.errno in {*FULL, errno.EROFS}):
        return error.errno
    if SAYS_FULL.search(str(error)):
        return errno.ENOSPC
    return errno.EROFS if SAYS_READ_ONLY.search(str(error)) else None


#: How libraries say that memory ran out, most of them in a plain RuntimeError.
SAYS_NO_MEMORY = re.compile(
    r"out[ _]of[ _](?:\w+[ _])?memory|OutOfMemory|ErrorMemoryAllocation|not enough memory|"  # CUDA, HIP, XPU, MPS, NCCL
    r"(?:can't|cannot|could not|unable to|failed to|tried to) allocate|Invalid buffer size: [\d.]+ [KMGTP]?i?B\b|"
    r"_ALLOC(?:ATION)?_FAILED|rocblas_status_memory_error|CUSPARSE_STATUS_INSUFFICIENT_RESOURCES|"
    r"Failed to CUDA (?:host )?[cm]?alloc|StatusAllocFailed|"  # NCCL, MIOpen
    # the first call of cuBLAS and its kin takes memory; so does what PyTorch asks NVML, after an allocation failed
    r"_STATUS_(?:NOT_INITIALIZED|INTERNAL_ERROR),? when calling `(?:cublas|hipblas|cusolverDn)(?:Lt)?Create|"
    r"CUDNN_STATUS_NOT_INITIALIZED|NVML_SUCCESS == .*INTERNAL ASSERT FAILED|"
    r"bad[_ ]alloc|paging file is too small|os error (?:12|1455)\b",  # C++; Windows and Rust, where files are mapped
    re.IGNORECASE,
)


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or what caused it, says that memory ran out."""
    seen = set()
    while error is not None and id(error) not in seen and not isinstance(error, UserError):
        seen.add(id(error))
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        kind = type(error).__name__  # other errors may quote any text, such as a prompt
        if (isinstance(error, RuntimeError | OSError) or kind == "SafetensorError") and (
            kind == "OutOfMemoryError" or SAYS_NO_MEMORY.search(str(error))
        ):
            return True
        error = error.__cause__
    return False


def log_unexpected(where: str) -> str:
    """Log the exception being handled, a bug, with its traceback. Returns the sentence to show instead.

    A disk that takes nothing and memory that ran out are no bugs and have sentences of their own.
    """
    if trouble := disk_trouble(sys.exception(), "Free some space and try again."):
        log.error("nothing can be written: %s: %s", where, first_line(sys.exception()))
        return f"This could not be written: {trouble}"
    if ran_out_of_memory(sys.exception()):
        log.error("memory ran out: %s: %s", where, first_line(sys.exception()))
        return "Memory ran out. Free some, or use shorter texts, fewer new tokens or a smaller model."
    code = secrets.token_hex(3)
    log.exception("error %s in %s", code, where)
    return f"An unexpected error occurred. The server's log describes it under {code}."
