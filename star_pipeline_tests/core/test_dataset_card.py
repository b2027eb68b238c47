"""What the data set card tells, and what it does not."""

from star_pipeline.config import load_config
from star_pipeline.config.models import StarConfig
from star_pipeline.core.dataset_card import dataset_card


def card(**scoring):
    settings = load_config("local").model_dump(mode="json")
    settings["scoring"] |= scoring
    return dataset_card([], "mine", StarConfig.model_validate(settings).model_dump(mode="json"))


def test_the_scoring_models_are_named():
    assert "(small): EleutherAI/pythia-410m; beside it (large): EleutherAI/pythia-1.4b; template alpaca" in card()


def test_a_servers_address_and_keys_variable_stay_out():
    small = {"model": "org/m", "api_base": "http://inside.example:8000/v1", "api_key_env": "INSIDE_KEY"}
    made = card(small=small, large="org/l@http://inside.example/v1")
    assert "(small): org/m (on a server); beside it (large): org/l (on a server); template alpaca" in made
    assert "inside" not in made.lower()
