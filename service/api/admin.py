"""/admin: tenants and API keys, for holders of a key with the scope admin."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.audited import note_target
from service.api.auth import WithAdmin
from service.api.bodies import Fields, read_fields, read_fields_if_any
from service.api.body_docs import body_docs
from service.api.deps import Gateway, WithGateway
from service.api.problems import problem_docs
from service.api.uploads import ReceivedFile, received_file
from service.errors import Conflict, InvalidRequest, ObjectNotFound, TenantNotFound
from service.jobs.fields import Number, Whole, listed, validated
from service.jobs.visible_label import LabelPolicy
from service.keys import DEFAULT_SCOPES, ApiKey, Scope
from service.logo import MAX_LOGO_BYTES
from service.logos import keep_logo, logo_key
from service.moderation.policy import Policy
from service.tenants import NAME_PATTERN, Tenant

router = APIRouter(prefix="/admin", tags=["admin"])

LONGEST_SECONDS = 10 * 366 * 24 * 3600
DEFAULT_OVERLAP_SECONDS = 24 * 3600
LONGEST_OVERLAP_SECONDS = 90 * 24 * 3600


Limit = Annotated[Whole, Field(ge=1)]
# Only told to clients here: what Tenant.checked says of a wrong name is clearer.
TenantName = Annotated[str, Path(json_schema_extra={"pattern": NAME_PATTERN})]


LOGO_FORM = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary", "description": "PNG or WebP, 1 MiB at most."}},
    "required": ["file"],
}


class NewKey(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(min_length=1, description="Of a tenant that exists: PUT /v1/admin/tenants/{name} makes one.")
    scopes: Annotated[list[Scope], BeforeValidator(listed)] = Field(list(DEFAULT_SCOPES), min_length=1)
    lifetime_seconds: Annotated[Whole, Field(ge=60, le=LONGEST_SECONDS)] | None = Field(
        None, description="Null: it lasts."
    )
    requests_per_minute: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Null: as often as it likes."
    )


class Rotation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap_seconds: Whole = Field(
        DEFAULT_OVERLAP_SECONDS, ge=0, le=LONGEST_OVERLAP_SECONDS, description="For so long the old key works too."
    )


class TenantLimits(BaseModel):
    """All of them: what is not given has no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Number = Field(1.0, gt=0, le=1000, description="Its share of the GPUs while others wait too.")
    max_queued: Limit | None = Field(None, description="Jobs that may wait at once.")
    max_active: Limit | None = Field(None, description="Jobs that may wait or run at once.")
    daily_gpu_seconds: Annotated[Number, Field(ge=0, le=1e9)] | None = Field(
        None, description="GPU time a day, from 00:00 UTC."
    )
    moderation: Policy = Field(Policy(), description="What its prompts may ask for, and what is reviewed first.")
    label: LabelPolicy = Field(LabelPolicy(), description="What viewers see on its videos.")


class ShownKey(BaseModel):
    object: Literal["api_key"] = "api_key"
    id: str
    tenant: str
    scopes: list[Scope]
    requests_per_minute: int | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    replaced_by: str | None = Field(description="The key that it was rotated to.")
    is_active: bool


class CreatedKey(ShownKey):
    key: str = Field(description="Shown this once.")


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ShownKey]


class TenantList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Tenant]


@router.get("/keys", responses=problem_docs(401, 403, 429, 503), summary="List API keys")
def list_keys(gateway: WithGateway, _admin: WithAdmin) -> KeyList:
    """All tenants', the oldest first, without their secrets."""
    return KeyList(data=[_shown(key, gateway.clock()) for key in gateway.keys.list()])


@router.post(
    "/keys",
    responses=problem_docs(400, 401, 403, 404, 413, 429, 503),
    openapi_extra=body_docs(NewKey, example={"tenant": "ads", "scopes": ["create", "read"]}),
    summary="Create an API key",
)
def create_key(gateway: WithGateway, _admin: WithAdmin, fields: Annotated[Fields, Depends(read_fields)]) -> CreatedKey:
    asked = validated(NewKey, fields)
    gateway.tenants.get(asked.tenant)
    text = gateway.keys.create(
        asked.tenant,
        scopes=asked.scopes,
        lifetime_seconds=asked.lifetime_seconds,
        requests_per_minute=asked.requests_per_minute,
    )
    return _created(text, gateway.keys.get(_id_in(text)), gateway.clock())


@router.post(
    "/keys/{key_id}/rotate",
    responses=problem_docs(400, 401, 403, 404, 409, 413, 429, 503),
    openapi_extra=body_docs(Rotation, example={"overlap_seconds": 3600}, is_required=False),
    summary="Rotate an API key",
)
def rotate_key(
    gateway: WithGateway, _admin: WithAdmin, key_id: str, fields: Annotated[Fields, Depends(read_fields_if_any)]
) -> CreatedKey:
    """A new key that may do the same; the old one ends after the overlap."""
    asked = validated(Rotation, fields)
    text = gateway.keys.rotate(key_id, overlap_seconds=asked.overlap_seconds)
    return _created(text, gateway.keys.get(_id_in(text)), gateway.clock())


@router.delete("/keys/{key_id}", responses=problem_docs(401, 403, 404, 429, 503), summary="Revoke an API key")
def revoke_key(gateway: WithGateway, _admin: WithAdmin, key_id: str) -> ShownKey:
    """Every gateway refuses it within seconds. Twice is fine."""
    return _shown(gateway.keys.revoke(key_id), gateway.clock())


@router.get("/tenants", responses=problem_docs(401, 403, 429, 503), summary="List tenants")
def list_tenants(gateway: WithGateway, _admin: WithAdmin) -> TenantList:
    return TenantList(data=list(gateway.tenants.list()))


@router.put(
    "/tenants/{name}",
    responses=problem_docs(400, 401, 403, 413, 429, 503),
    openapi_extra=body_docs(TenantLimits, example={"weight": 2, "max_queued": 50, "daily_gpu_seconds": 86400}),
    summary="Make a tenant, or set its limits",
)
def put_tenant(
    gateway: WithGateway, _admin: WithAdmin, name: TenantName, fields: Annotated[Fields, Depends(read_fields)]
) -> Tenant:
    """Gateways see them within seconds."""
    tenant = Tenant.checked(name=name, **validated(TenantLimits, fields).model_dump())
    if tenant.label.logo is not None:
        _check_logo(gateway, tenant.label.logo)
    try:
        gateway.tenants.update(tenant)
    except TenantNotFound:
        try:
            gateway.tenants.create(tenant)
        except Conflict:
            # Somebody else made it just now.
            gateway.tenants.update(tenant)
    return tenant


@router.put(
    "/tenants/{name}/logo",
    responses=problem_docs(400, 401, 403, 404, 413, 429, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": LOGO_FORM}}}},
    summary="Set a tenant's logo",
)
def put_logo(
    gateway: WithGateway,
    _admin: WithAdmin,
    name: TenantName,
    received: Annotated[ReceivedFile, Depends(received_file)],
) -> Tenant:
    """Its new videos carry it. Nothing but the picture's pixels is kept."""
    tenant = gateway.tenants.get(name)
    logo = keep_logo(gateway.storage, received.content.read(MAX_LOGO_BYTES + 1))
    return _with_logo(gateway, tenant, logo)


@router.delete(
    "/tenants/{name}/logo", responses=problem_docs(401, 403, 404, 429, 503), summary="Take a tenant's logo away"
)
def delete_logo(gateway: WithGateway, _admin: WithAdmin, name: TenantName) -> Tenant:
    """From its new videos. Twice is fine."""
    return _with_logo(gateway, gateway.tenants.get(name), None)


def _with_logo(gateway: Gateway, tenant: Tenant, logo: str | None) -> Tenant:
    changed = tenant.model_copy(update={"label": tenant.label.model_copy(update={"logo": logo})})
    gateway.tenants.update(changed)
    return changed


def _check_logo(gateway: Gateway, logo: str) -> None:
    try:
        gateway.storage.stat(logo_key(logo))
    except ObjectNotFound:
        raise InvalidRequest(
            "label.logo is not known: PUT the picture to /v1/admin/tenants/{name}/logo.", param="label"
        ) from None


def _created(text: str, key: ApiKey, now: float) -> CreatedKey:
    note_target("api_key_id", key.id)
    return CreatedKey(**_shown(key, now).model_dump(), key=text)


def _shown(key: ApiKey, now: float) -> ShownKey:
    return ShownKey(
        id=key.id,
        tenant=key.tenant,
        scopes=list(key.scopes),
        requests_per_minute=key.requests_per_minute,
        created_at=int(key.created_at),
        expires_at=None if key.expires_at is None else int(key.expires_at),
        revoked_at=None if key.revoked_at is None else int(key.revoked_at),
        replaced_by=key.replaced_by,
        is_active=key.is_active(now),
    )


def _id_in(text: str) -> str:
    return text.split("_")[1]
