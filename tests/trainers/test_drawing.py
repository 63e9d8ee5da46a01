"""Tokens that are drawn: as likely as they should be, and of nobody's business but their own seed's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from lake.errors import LakeError  # noqa: E402
from trainers.drawing import Draw, drawing, seed_of  # noqa: E402

torch.set_num_threads(1)

VOCABULARY = 6
LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf, 1.5])


def drawn(seeds, logits=LOGITS, *, temperature=1.0, top_p=1.0, tokens=1):
    """Which tokens are drawn from the same logits, int64 of shape (seeds, tokens)."""
    draw = Draw(seeds, temperature, top_p)
    scores = logits.expand(len(seeds), -1)
    only = [draw(torch.zeros((len(seeds), 1), dtype=torch.long), scores) for _ in range(tokens)]
    for one in only:
        assert one.shape == scores.shape
        assert (one.exp().sum(-1) == 1).all(), "another token would be possible"
    return torch.stack([one.argmax(-1) for one in only], dim=1).numpy()


def test_seeds_are_counted_from_the_step():
    """The formula of the run's seed and the step, below 2^31."""
    assert seed_of(123, 7) == 7000144
    assert seed_of(2**31 - 1, 10**9) == (2**31 - 1 + 10**9 * 1000003) % 2**31


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_tokens_are_as_likely_as_they_should_be(temperature):
    """Over many seeds, and over the tokens of one seed, each is drawn as often as its probability says."""
    expected = torch.softmax(LOGITS.double() / temperature, -1).numpy()
    for seeds, tokens, bound in ((range(20_000), 1, 0.012), ([7], 3_000, 0.03)):
        chosen = drawn(seeds, temperature=temperature, tokens=tokens)
        found = np.bincount(chosen.ravel(), minlength=VOCABULARY) / chosen.size
        assert np.abs(found - expected).max() < bound
        assert found[4] == 0, "what cannot be was drawn"


def test_only_the_likeliest_are_drawn():
    """With top_p, none beyond those that make up the mass, which keep their proportions."""
    found = np.bincount(drawn(range(20_000), top_p=0.6).ravel(), minlength=VOCABULARY) / 20_000
    kept = torch.softmax(torch.tensor([2.0, 1.5]), -1).numpy()
    assert np.abs(found[[0, 5]] - kept).max() < 0.012
    assert found[[1, 2, 3, 4]].sum() == 0


@pytest.mark.parametrize("top_p", [1.0, 0.5])
@pytest.mark.parametrize("broken", [[0.0, torch.nan], [0.0, torch.inf], [-torch.inf, -torch.inf]])
def test_nothing_is_drawn_from_what_is_no_number(broken, top_p):
    """Where one row has a logit that is nan or infinite, or no token that is possible, the draw is refused."""
    draw = Draw([1, 2], 1.0, top_p)
    draw(torch.zeros((2, 1), dtype=torch.long), torch.tensor([[0.0, 1.0], [0.0, -torch.inf]]))
    with pytest.raises(LakeError, match="logits for token 2"):
        draw(torch.zeros((2, 1), dtype=torch.long), torch.tensor([[0.0, 1.0], broken]))


def test_a_row_is_drawn_alike_in_any_company():
    """Neither its neighbours nor what torch has drawn before change what a seed gives."""
    seeds = [3, 1_000_006, 2**31 + 5, 3]
    torch.manual_seed(0)
    together = drawn(seeds, tokens=50)
    torch.manual_seed(1)
    alone = np.concatenate([drawn([seed], tokens=50) for seed in seeds])
    assert (together == alone).all()
    assert (together[0] == together[3]).all()
    assert (together[0] != together[1]).any()


def test_a_model_generates_so():
    """`generate` takes what is drawn, pads what has ended, and afterwards is what it was."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        pad_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    ids = torch.tensor([[2, 3], [2, 3], [0, 3]])

    def generated(seeds, rows):
        with drawing(model, Draw(seeds, 0.7)):
            said = model.generate(
                input_ids=ids[rows],
                attention_mask=(ids[rows] != 0).long(),
                do_sample=True,
                temperature=0.7,
                max_new_tokens=9,
            )
        return said[:, 2:].tolist()

    together = generated([5, 5, 6], [0, 1, 2])
    assert together[0] == together[1]
    [alone] = generated([5], [0])
    assert together[0] == alone + [0] * (len(together[0]) - len(alone))
    assert len({tuple(one) for one in generated(range(8), [0] * 8)}) > 4
    assert "generate" not in vars(model)
