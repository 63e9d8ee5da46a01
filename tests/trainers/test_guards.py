"""Documents that share a row do not see each other: on real models of every kind, tiny, guarded and probed."""

import copy
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS  # noqa: E402
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: E402

from exporters.packing import IGNORED  # noqa: E402
from lake.errors import LakeError, UsageError  # noqa: E402
from tests.trainers.kinds import EXPERTS, HAS_NO_SDPA, KINDS, VOCABULARY, made, packed  # noqa: E402
from trainers.guards import Guarded, Leaked, guard, lengths_of, probe  # noqa: E402

# transformers 5.23 renames it, and calls it by the old name itself; 5.17 knows no other.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)
DENSE_AND_NOT = ["llama", "gpt_oss", "mixtral"]


@pytest.mark.parametrize(
    ("kind", "attention"),
    [(k, a) for k in sorted(KINDS) for a in ("sdpa", "eager") if not (a == "sdpa" and k in HAS_NO_SDPA)],
)
def test_a_guarded_model_keeps_documents_apart(kind, attention):
    """As it comes a model lets a document see the one before, and the probe says so; guarded, the probe passes."""
    model = made(kind, attention)
    with pytest.raises(Leaked, match=f"with {attention} attention: a document of a packed row sees the ones before it"):
        probe(model, VOCABULARY)
    said = guard(model)
    assert (said.model, said.attention) == (type(model).__name__, attention)
    found = probe(model, VOCABULARY)
    assert found.influence == 0
    assert max(found.seen, found.alone) < 1e-5


@pytest.mark.parametrize("kind", DENSE_AND_NOT)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_told_from_a_leak(kind, dtype):
    """What rounding does to half precision is no leak, and a leak is found in half precision."""
    model = made(kind, dtype=dtype)
    with pytest.raises(Leaked):
        probe(model, VOCABULARY)
    guard(model)
    assert probe(model, VOCABULARY).influence == 0


@pytest.fixture(scope="module", params=DENSE_AND_NOT)
def guarded(request):
    """A guarded model, in the mode in which it is trained."""
    model = made(request.param)
    guard(model)
    return model.train()


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_packed_logits_are_those_of_each_document(guarded, cuts):
    """However a row is cut into documents, the logits of each are those that it has alone."""
    ids, positions = packed(cuts, rows=2)
    with torch.no_grad():
        logits = guarded(input_ids=ids, position_ids=positions).logits
        at = 0
        for size in cuts:
            alone = guarded(input_ids=ids[:, at : at + size]).logits
            assert torch.allclose(logits[:, at : at + size], alone, atol=1e-5)
            at += size


def test_a_cache_cannot_be_turned_on_again(guarded):
    """The cache is off wherever a model looks, and one that is asked for with packed rows does not come."""
    ids, positions = packed([5, 9, 2])
    with torch.no_grad():
        by_default = guarded(input_ids=ids, position_ids=positions)
        asked_for = guarded(input_ids=ids, position_ids=positions, use_cache=True)
    assert not guarded.config.use_cache
    assert asked_for.past_key_values is None
    assert torch.equal(by_default.logits, asked_for.logits)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_packed_loss_is_the_mean_over_tokens(guarded, checkpointing):
    """The mean loss of packed rows, and its derivatives, are those of the documents alone, token by token."""
    if checkpointing:
        guarded.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        cuts = [7, 12, 3, 10]
        ids, positions = packed(cuts)
        labels = ids.clone()
        labels[positions == 0] = IGNORED
        together = guarded(input_ids=ids, position_ids=positions, labels=labels).loss
        counted = sum(size - 1 for size in cuts)
        documents = [
            ids[:, at - size : at] for at, size in zip(torch.tensor(cuts).cumsum(0).tolist(), cuts, strict=True)
        ]
        alone = sum(guarded(input_ids=one, labels=one, num_items_in_batch=counted).loss for one in documents)
        weight = guarded.get_input_embeddings().weight
        [by_packed], [by_alone] = (torch.autograd.grad(loss, [weight]) for loss in (together, alone))
    finally:
        guarded.gradient_checkpointing_disable()
    assert together.item() == pytest.approx(alone.item(), abs=1e-5)
    assert torch.allclose(by_packed, by_alone, atol=1e-6)


def test_adapters_go_through_the_guard():
    """A model under adapters is guarded and probed as it is trained, on all that its adapters add."""
    model = made("gpt_oss")
    experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    asked = peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], target_parameters=experts, init_lora_weights=False
    )
    wrapped = peft.get_peft_model(model, asked)
    with pytest.raises(Leaked):
        probe(wrapped, VOCABULARY)
    said = guard(wrapped)
    assert said == Guarded("GptOssForCausalLM", "eager", "mask")
    assert probe(wrapped, VOCABULARY).influence == 0
    ids, positions = packed([6, 9])
    with torch.no_grad():
        second = wrapped(input_ids=ids, position_ids=positions).logits[:, 6:]
        assert torch.allclose(second, wrapped(input_ids=ids[:, 6:]).logits, atol=1e-5)


def test_a_copy_is_guarded_too():
    """A copy of a guarded model, which a reference is, is as it was."""
    model = made("gpt_oss")
    guard(model)
    assert probe(copy.deepcopy(model), VOCABULARY).influence == 0


def test_a_probe_changes_nothing(guarded):
    """Weights, derivatives, the mode of each part and the state of random numbers are as before."""
    guarded.train()
    guarded.get_decoder().layers[0].eval()
    weights = {name: value.clone() for name, value in guarded.state_dict().items()}
    modes = [module.training for module in guarded.modules()]
    state = torch.get_rng_state()
    draws = guarded.get_decoder().register_forward_pre_hook(lambda *_: torch.rand(1) < 0 or None)
    probe(guarded, VOCABULARY)
    draws.remove()
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in guarded.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in guarded.state_dict().items())
    assert all(parameter.grad is None for parameter in guarded.parameters())
    assert probe(guarded, VOCABULARY) == probe(guarded, VOCABULARY)
    guarded.train()


def test_a_guarded_model_still_writes(guarded):
    """Generation with a cache, and with padding at the left, gives what the same model gives unguarded."""
    ids, _ = packed([9], rows=2)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    asked = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False, "use_cache": True}
    plain = made(guarded.config.model_type)
    assert guarded.generate(ids, **asked).tolist() == plain.generate(ids, **asked).tolist()


def test_a_mask_beside_packed_rows_is_refused(guarded):
    """A mask of two dimensions hides where documents end: such a batch is an error, one document a row is none."""
    ids, positions = packed([6, 9])
    with pytest.raises(Leaked, match="a mask of attention that hides them"):
        guarded(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids))
    mask = torch.ones_like(ids)
    mask[:, 11:] = 0
    guarded(input_ids=ids, position_ids=torch.arange(15)[None], attention_mask=mask)
    # Padding may have any position.
    guarded(input_ids=ids, position_ids=(torch.arange(15)[None] * mask), attention_mask=mask)


def test_a_mask_of_true_and_false_is_refused_where_it_would_be_added():
    """Eager attention adds its mask to the scores, where true is one."""
    model = made("llama", "eager")
    guard(model)
    ids, positions = packed([6, 9])
    mask = torch.ones(1, 1, 15, 15, dtype=torch.bool).tril()
    with pytest.raises(Leaked, match="of true and false"):
        model(input_ids=ids, position_ids=positions, attention_mask=mask)


def test_a_mixtures_balance_is_still_counted():
    """A loss that keeps experts busy is computed beside masks that the guard has made, and moves no logit."""
    model = made("gpt_oss")
    guard(model)
    ids, positions = packed([6, 9])
    with torch.no_grad():
        plain = model(input_ids=ids, position_ids=positions, labels=ids)
        balanced = model(input_ids=ids, position_ids=positions, labels=ids, output_router_logits=True)
    assert torch.equal(plain.logits, balanced.logits)
    assert balanced.loss.item() == pytest.approx(
        plain.loss.item() + model.router_aux_loss_coef * balanced.aux_loss.item()
    )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (
            "qwen3_next",
            {
                **EXPERTS,
                "shared_expert_intermediate_size": 16,
                "layer_types": ["linear_attention", "full_attention"],
                "linear_num_value_heads": 2,
                "linear_num_key_heads": 2,
            },
        ),
        ("mamba", {"state_size": 4}),
    ],
)
def test_layers_that_carry_a_state_are_refused(kind, more):
    """No boundary stops a recurrent layer, so the model is refused by name; the probe would find it, too."""
    model = made(kind, "eager", **more)
    with pytest.raises(UsageError, match="linear_attention layers") as caught:
        guard(model)
    assert "one example a row" in str(caught.value.hint)
    with pytest.raises(Leaked):
        probe(model, VOCABULARY)


def test_attention_without_masks_is_refused(monkeypatch):
    """An attention that somebody registered, and for which nobody makes masks, is refused by name."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "mine", ALL_ATTENTION_FUNCTIONS["sdpa"])
    with pytest.raises(UsageError, match="nothing tells mine attention"):
        guard(made("llama", "mine"))


def per_document(module, query, key, value, attention_mask, *, cu_seq_lens_q=None, **kwargs):
    """What flash attention computes: sequences one after the other, or whole rows where nothing tells of any."""
    assert attention_mask is None
    rows, heads, length, size = query.shape
    flat = [one.transpose(1, 2).reshape(rows * length, -1, size) for one in (query, key, value)]
    ends = range(0, rows * length + 1, length) if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    outs = []
    for begin, end in pairwise(ends):
        parts = [one[begin:end].transpose(0, 1)[None] for one in flat]
        done = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True)
        outs.append(done[0].transpose(0, 1))
    return torch.cat(outs).reshape(rows, length, heads, size), None


@pytest.mark.parametrize("kind", ["llama", "gpt_oss"])
def test_flash_attention_is_told_where_documents_begin(monkeypatch, kind):
    """Flash attention looks at position ids in single rows alone; guarded, it has the documents' bounds in all rows."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", per_document)
    model = made(kind)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(Leaked, match="flash_attention_2 attention"):
        probe(model, VOCABULARY)
    assert guard(model).boundaries == "lengths"
    assert probe(model, VOCABULARY).influence == 0


@given(st.lists(st.lists(st.integers(1, 5), min_size=4, max_size=4), min_size=1, max_size=4))
def test_lengths_are_those_of_the_documents(cuts):
    """The bounds of the documents in rows one after the other are where their lengths add up to."""
    width = max(map(sum, cuts))
    filled = [[*row, width - sum(row)] if sum(row) < width else row for row in cuts]
    positions = torch.stack([torch.cat([torch.arange(size) for size in row]) for row in filled])
    found = lengths_of(positions)
    assert found.dtype == torch.int32
    assert found.diff().tolist() == [size for row in filled for size in row]


def test_a_leak_below_what_rounding_does_is_found():
    """However little of a document another one sees, a derivative is there or is not."""
    model = made("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 1e-4
    with pytest.raises(Leaked, match="sees the ones before it"):
        probe(model, VOCABULARY)
    guard(model)
    assert probe(model, VOCABULARY).influence == 0


def test_a_leak_without_a_derivative_is_found():
    """What one document does to another without a derivative, as choosing among tokens does, moves its logits."""
    model = made("llama")
    guard(model)
    model.lm_head.register_forward_pre_hook(lambda _, args: (args[0] + args[0].detach().mean(1, keepdim=True),))
    with pytest.raises(Leaked, match=r"sees the ones before it \(seen 0.\d+, influence 0,"):
        probe(model, VOCABULARY)


def test_a_document_that_is_not_itself_is_found():
    """Documents may be apart and still not be what they are alone: here by a window that the model itself ignores."""
    model = made("opt", sliding_window=4)
    guard(model)
    with pytest.raises(Leaked, match="is not what it is in a row of its own"):
        probe(model, VOCABULARY)


def test_a_model_without_numbers_is_no_proof():
    """A model that computes no numbers is not called right."""
    model = made("llama")
    guard(model)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(LakeError, match="not all of its logits are finite"):
        probe(model, VOCABULARY)


def test_what_is_no_model_is_refused():
    """Something else than a model of transformers is a mistake of the caller."""
    with pytest.raises(TypeError, match="Linear is no model of transformers"):
        guard(torch.nn.Linear(1, 1))


def test_attentions_that_have_masks_are_those_that_the_guard_knows():
    """The attentions for which transformers makes masks are still these."""
    assert {"sdpa", "eager", "flex_attention", "flash_attention_2"} <= set(ALL_MASK_ATTENTION_FUNCTIONS.valid_keys())
