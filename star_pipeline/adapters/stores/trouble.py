"""What went wrong with S3, in one line with its remedy, whichever of the clients below says it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from star_pipeline.adapters.stores.settings import S3Settings
from star_pipeline.core.errors import StarError, StoreError, in_short

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_OF_A_STORE = re.compile(
    r"S3 error|Error performing|object store|object_store|status code: \d{3}|credential", re.IGNORECASE
)
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_WRONG_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"}
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_WRONG_BUCKET = {"NoSuchBucket", "InvalidBucketName"}
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where the key is a temporary one)"


def in_one_line(error: BaseException, address: str, settings: S3Settings) -> str:
    """``address``: of the object or the lake."""
    text = str(error)
    code = found[1] if (found := _CODE.search(text)) else ""
    status = found[1] if (found := _STATUS.search(text)) else ""
    bucket = address.removeprefix("s3://").split("/", 1)[0]
    what = f"s3://{bucket}: {settings.where} "
    said = code or status
    if code in _WRONG_BUCKET or (status == "404" and not code):
        return f"{what}has no bucket {bucket}; make it, or mend --lake (or AWS_ENDPOINT_URL, AWS_REGION)"
    if code in _SKEWED:
        return f"{what}refuses requests of this machine, whose clock is wrong ({code}); set it (by NTP)"
    if code in _WRONG_KEY:
        return f"{what}does not know these credentials ({code}); mend {_KEYS}"
    if code in _WRONG_REGION or status == "301":
        return f"{what}says that the bucket is in another region ({said}); set AWS_REGION to the bucket's"
    if "169.254.169.254" in text or "metadata" in text.lower() or "no credentials" in text.lower():
        return f"{what}needs credentials, and none are set; set {_KEYS} or AWS_PROFILE, or give this machine a role"
    if status in ("401", "403"):
        return (
            f"{what}does not let these credentials do that ({said}); mend {_KEYS}, or let them read, write, list and delete "
            f"in {bucket}"
        )
    if status.startswith("5"):
        return f"{what}fails ({said}); look at the server, then run the same command to go on"
    if "error sending request" in text or "timed out" in text.lower() or "timeout" in text.lower() or "onnect" in text:
        mend = (
            "start it, or mend AWS_ENDPOINT_URL" if settings.endpoint else "mend AWS_REGION (or set AWS_ENDPOINT_URL)"
        )
        return f"{what}does not answer; {mend} or the network, then run the same command to go on"
    return f"{what}says: {in_short(Exception(text.split('Debug source')[0]))}"


@contextmanager
def told(address: str, settings: S3Settings) -> Iterator[None]:
    """What a library below says of the store, as StoreError; its other errors as they are."""
    try:
        yield
    except StarError:
        raise
    except Exception as error:
        if not _OF_A_STORE.search(str(error)):
            raise
        raise StoreError(in_one_line(error, address, settings)) from error
