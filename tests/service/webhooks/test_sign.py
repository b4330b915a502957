"""What we sign, others verify: the Standard Webhooks library and the openai SDK."""

import time

import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.errors import InvalidRequest
from service.webhooks.secret import checked_secret, hint_of, new_secret
from service.webhooks.sign import signed_headers

BODY = '{"id":"evt_1","data":{"prompt":"一只红色的球"}}'


def test_while_secrets_rotate_a_holder_of_either_can_verify() -> None:
    new, old = new_secret(), new_secret()
    headers = signed_headers("evt_1", BODY, secrets=[new, old], now=time.time())

    for secret in (new, old):
        assert Webhook(secret).verify(BODY, headers)["id"] == "evt_1"
        openai.OpenAI(api_key="none").webhooks.verify_signature(BODY, headers, secret=secret)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


def test_a_changed_body_and_an_old_stamp_do_not_verify() -> None:
    secret = new_secret()

    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret).verify(BODY + " ", signed_headers("evt_1", BODY, secrets=[secret], now=time.time()))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, signed_headers("evt_1", BODY, secrets=[secret], now=time.time() - 600))


def test_a_drawn_secret_is_a_legal_one_and_its_hint_tells_little() -> None:
    secret = new_secret()

    assert checked_secret(secret, param="secret") == secret
    assert hint_of(secret) == f"whsec_…{secret[-4:]}"


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_c2hvcnQ=", "c2VjcmV0" * 5, "whsec_not base64!", "whsec_é", "whsec_" + "A" * 400]
)
def test_a_secret_that_receivers_could_not_use_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        checked_secret(text, param="webhook.secret")

    assert error.value.message == "webhook.secret must be whsec_ followed by 24 to 64 random bytes in base64."
