"""A memory and its energy, slots to mend, a counter-example, relations, a dictionary."""

import torch
from torch import einsum
from torch.nn import functional as F

from course_lib.classroom.answers import case, no_tensor_above, normal
from course_lib.exercises.layers.attention._chapter import exercises
from course_lib.layers import attention


def _states_and_patterns():
    def given(t, n, d, beta):
        return normal(t, d), normal(n, d, seed=1), beta

    yield case("one state, two patterns, beta = 1", *given(1, 2, 2, 1.0))
    yield case("one state, two patterns, beta = 2", *given(1, 2, 2, 2.0))
    yield case("a single pattern", *given(1, 1, 3, 0.7))
    yield case("several states, each for itself", *given(3, 5, 4, 0.5))
    yield case("beta = 300: the exponential overflows", *given(4, 3, 6, 300.0))


@exercises.add(
    cases=_states_and_patterns,
    hints=(
        "In the code patterns are rows: state @ patterns.T holds the inner products x_i . xi, one row a state.",
        "The weights of one state over the patterns are a softmax over the last axis; they mix the patterns.",
    ),
)
def my_update(state, patterns, beta):
    return attention.hopfield_update(state, patterns, beta=beta)


@my_update.mistakes(
    no_beta="beta is missing: it multiplies the inner products inside the softmax.",
    beta_outside="beta belongs inside the softmax; you multiply the result with it.",
    divided_scores="You divide by beta inside the softmax; the equation multiplies.",
    divided_after="You divide by beta after the softmax: the weights no longer add up to one.",
    over_states="Your softmax runs over the states, so that one state's retrieval depends on its neighbours.",
    adds_to_state="The update replaces the state, it does not add to it.",
    root_of_width="You divide by the root of the width. Here beta takes that place, alone.",
    scores_only="These are the weights; the update mixes the patterns with them.",
    best_alone="The softmax weighs all patterns; yours takes the nearest one alone.",
    over_everything="Your softmax runs over states and patterns together; each state has a softmax of its own.",
)
def _(state, patterns, beta, *, wrong):
    factor = 1 if wrong.no_beta or wrong.beta_outside else 1 / beta if wrong.divided_scores else beta
    weights = (factor * state @ patterns.T / (state.shape[-1] ** 0.5 if wrong.root_of_width else 1)).softmax(
        0 if wrong.over_states else -1
    )
    if wrong.over_everything:
        weights = (beta * state @ patterns.T).flatten().softmax(0).reshape(len(state), len(patterns))
    if wrong.best_alone:
        weights = F.one_hot(weights.argmax(-1), len(patterns)).to(weights)
    if wrong.scores_only:
        return weights
    mixed = weights @ patterns * (beta if wrong.beta_outside else 1 / beta if wrong.divided_after else 1)
    return mixed + state if wrong.adds_to_state else mixed


@exercises.add(
    cases=_states_and_patterns,
    hints=(
        "Four terms, in the order of the equation; torch.logsumexp(scores, -1) is the logarithm of the sum.",
        "N is the number of patterns; max |x_i|^2 is patterns.square().sum(-1).max().",
    ),
)
def my_energy(state, patterns, beta):
    return attention.hopfield_energy(state, patterns, beta=beta)


@my_energy.mistakes(
    no_division="The logarithm of the sum is divided by beta, so that the energy has the units of an inner product.",
    upside_down="The sign of the first term: a state that resembles a pattern must have a low energy.",
    no_half="Half of xi . xi, please: otherwise the update is not a step of length one down the gradient.",
    no_constants="The constants (log N, and the largest pattern) are missing; with them the energy is never negative.",
    no_log_n="The term with the logarithm of N is missing.",
    no_largest="The last term, with the largest pattern, is missing.",
    largest_not_squared="The last term has the squared length of the largest pattern; yours is not squared.",
    largest_not_halved="Half of the largest squared length, please.",
    mean_for_sum="You take the mean of the exponentials where the sum is asked; log N then stands there twice.",
    over_states="Your sum runs over the states; it runs over the patterns.",
    one_energy="One energy a state: yours are added up.",
    overflow="The exponential overflows at large beta: torch.logsumexp does not.",
    no_beta_inside="beta is missing inside the exponential.",
    log_n_undivided="The logarithm of N is divided by beta, too.",
    other_base="The logarithm of N is the natural one (math.log).",
    width_for_n="N is the number of patterns, len(patterns), not their width.",
    largest_entry="The last term has the largest squared length of a pattern, not the largest squared entry.",
)
def _(state, patterns, beta, *, wrong):
    scores = state @ patterns.T * (1 if wrong.no_beta_inside else beta)
    lse = torch.logsumexp(scores, -2 if wrong.over_states else -1)
    if wrong.over_states:
        lse = lse.mean(-1).expand(len(state))
    if wrong.overflow:
        lse = scores.exp().sum(-1).log()
    count = torch.tensor(float(len(patterns)), dtype=state.dtype).log()
    if wrong.mean_for_sum:
        lse = lse - count
    lse = lse if wrong.no_division else lse / beta
    if wrong.other_base:
        count = torch.tensor(float(len(patterns))).log2()
    if wrong.width_for_n:
        count = torch.tensor(float(patterns.shape[1])).log()
    largest = patterns.square().max() if wrong.largest_entry else patterns.square().sum(-1).max()
    largest = (largest.sqrt() if wrong.largest_not_squared else largest) / (
        1 if wrong.largest_not_halved else 2
    )
    constants = (0 if wrong.no_log_n else count / (1 if wrong.log_n_undivided else beta)) + (
        0 if wrong.no_largest else largest
    )
    square = state.square().sum(-1) / (1 if wrong.no_half else 2)
    total = (lse if wrong.upside_down else -lse) + square + (0 if wrong.no_constants else constants)
    return total.sum() if wrong.one_energy else total


def _context_and_slots():
    def given(b, h, t, n, e):
        return *(normal(b, h, t, e, seed=i) for i in (0, 1, 2)), normal(h, n, e), normal(h, n, e, seed=1)

    yield case("one token, two slots", *given(1, 1, 1, 2, 2))
    yield case("two tokens, one slot", *given(1, 1, 2, 1, 2))
    yield case("two tokens, three slots", *given(1, 1, 2, 3, 2))
    yield case("two sequences, two heads", *given(2, 2, 4, 3, 5))


@exercises.add(
    cases=_context_and_slots,
    hints=(
        "Work out by hand which columns of the mask belong to slots, and which to tokens.",
        "Is every score divided by the same number, and does one softmax see all of them?",
        "A slot is visible to every token, also to the first: only the columns of tokens are masked.",
    ),
)
def my_all_attention(q, k, v, slot_keys, slot_values):
    n, t = slot_keys.shape[1], q.shape[2]
    k, v = (
        torch.cat([slots.expand(len(q), -1, -1, -1), x], 2) for slots, x in ((slot_keys, k), (slot_values, v))
    )
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(t, n + t, dtype=torch.bool).tril(n))


@my_all_attention.mistakes(
    two_softmaxes="There are two softmaxes. One lets context and slots compete for attention.",
    masked_slots="The mask still hides slots from the first tokens. A slot is no token: it is visible to everybody.",
    no_mask="The context lost its causal mask: tokens see the future.",
    own_token_hidden="Tokens do not see themselves any more.",
    unscaled_slots="The scores of the slots are not scaled: both kinds are divided by the same root.",
    unscaled_context="The scores of the context are not scaled: both kinds are divided by the same root.",
    unscaled="No score is scaled: both kinds are divided by the root of e.",
    mixed_up="Weights and values stand in a different order: slots first in one, tokens first in the other.",
    context_values_only="The values of the slots are not mixed in.",
    scaled_twice="The scores are divided by the root of e twice.",
    past_hidden="You hide the past and show the future: a token sees the slots, itself and what is before it.",
)
def _(q, k, v, slot_keys, slot_values, *, wrong):
    n, t = slot_keys.shape[1], q.shape[2]
    root = q.shape[-1] ** 0.5
    to_slots = einsum("bhte,hne->bhtn", q, slot_keys) / (
        1 if wrong.unscaled_slots or wrong.unscaled else root**2 if wrong.scaled_twice else root
    )
    to_context = (
        q
        @ k.mT
        / (1 if wrong.unscaled_context or wrong.unscaled else root**2 if wrong.scaled_twice else root)
    )
    future = torch.ones(t, t, dtype=torch.bool).triu(0 if wrong.own_token_hidden else 1)
    if wrong.past_hidden:
        future = future.T
    if not (wrong.no_mask or wrong.masked_slots):
        to_context = to_context.masked_fill(future, -torch.inf)
    if wrong.two_softmaxes:
        return to_context.softmax(-1) @ v + einsum("bhtn,hne->bhte", to_slots.softmax(-1), slot_values)
    scores = torch.cat([to_slots, to_context], -1)
    if wrong.masked_slots:
        scores = scores.masked_fill(torch.ones(t, n + t, dtype=torch.bool).triu(1), -torch.inf)
    weights = scores.softmax(-1)
    values = [slot_values.expand(len(q), -1, -1, -1), v]
    if wrong.context_values_only:
        values[0] = 0 * values[0]
    return weights @ torch.cat(values[::-1] if wrong.mixed_up else values, 2)


@exercises.accept(
    hints=(
        "A weighted mean does not notice how often something is there, only how often compared with the rest.",
        "Say every key and value twice.",
    )
)
def my_confused_pair(result):
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return "returns two sequences, each a tensor (tokens, width)"
    first, second = (torch.as_tensor(x).double() for x in result)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        return f"wants two tensors (tokens, width) of one width, got {tuple(first.shape)} and {tuple(second.shape)}"
    if len(first) == len(second):
        return f"wants sequences of different length, both have {len(first)} tokens"
    if len(first[:, 0].unique()) < 2 or len(second[:, 0].unique()) < 2:
        return "is too easy: in each sequence at least two tokens must differ in their first number"
    width = first.shape[1]
    wq, wk, wv = (normal(width, width, seed=i) for i in (1, 2, 3))
    last = [
        F.scaled_dot_product_attention((x @ wq)[None], (x @ wk)[None], (x @ wv)[None])[0, -1]
        for x in (first, second)
    ]
    gap = (last[0] - last[1]).abs().max().item()
    if gap < 1e-9:
        return ""
    text = f"is told apart: the last token's results differ by {gap:.3g}"
    if not torch.allclose(first[-1], second[-1]):
        return f"{text} (the last tokens differ, so they ask for different things)"
    told = [x[(x != 0).any(1)] for x in (first, second)]  # without tokens of zeros
    if told[0].shape == told[1].shape and torch.allclose(*told):
        return f"{text} (a token of zeros is a token: its score is 0, its weight is not)"
    return text


def _heads_and_relations():
    def given(b, h, t, s, r, e):
        a = normal(b, h, t, s).softmax(-1)
        return a, normal(b, r, t, s), normal(b, h, s, e), normal(h, r, e)

    yield case("two senders, one relation, width 1", *given(1, 1, 1, 2, 1, 1))
    yield case("one sequence", *given(1, 1, 2, 2, 1, 2))
    yield case("more relations than heads", *given(1, 1, 2, 2, 3, 2))
    yield case("two sequences; receivers and senders differ in number", *given(2, 3, 4, 5, 2, 3))
    yield case("many tokens: no vector for each pair", *given(1, 2, 24, 24, 3, 8))


@exercises.add(
    cases=_heads_and_relations,
    rules=[
        no_tensor_above(
            lambda a, rho, z, w: max(a.numel(), rho.numel(), z.numel(), a[..., 0].numel() * rho.shape[1] * 2),
            "sum over the senders first, while the relations are still R numbers",
        )
    ],
    hints=(
        "Take the bracket apart: the symbols and the relations can be sent separately.",
        "First seen[b, h, t, r] = sum over s of a[b, h, t, s] rho[b, r, t, s]; only then comes w.",
    ),
)
def my_relational(a, rho, z, w):
    return attention.relational_attention(a, rho, z, w)


@my_relational.mistakes(
    no_symbol="The symbol is missing: without it nobody knows who sent the message.",
    symbols_only="The relations are missing: only the symbols are sent.",
    turned_relation="You read rho[r, s, t]. The relation goes from the receiver t to the sender s.",
    softmax_on_relations="No softmax acts on the relations: two unrelated tokens have a relation of zero, not a share.",
    symbol_per_relation="The symbol stands inside the sum over relations and is added once for each of them.",
    symbol_unweighted="The symbol is sent along the attention weights as well: it stands inside the bracket.",
    relations_unweighted="The relations are summed over all senders alike; they need the attention weights too.",
    same_for_all_heads="All heads use the same W. The relations are shared by the heads; W is each head's own.",
    mean_of_relations="You average over the relations; the equation adds them up.",
    softmax_on_weights="a holds the weights already: no further softmax.",
    first_head="All heads use the W of the first; W is each head's own.",
)
def _(a, rho, z, w, *, wrong):
    if wrong.turned_relation and rho.shape[-1] == rho.shape[-2]:
        rho = rho.mT
    if wrong.softmax_on_relations:
        rho = rho.softmax(-1)
    if wrong.softmax_on_weights:
        a = a.softmax(-1)
    if wrong.first_head:
        w = w[:1].expand_as(w)
    if wrong.same_for_all_heads:
        w = w.mean(0, keepdim=True).expand_as(w)
    seen = einsum("bhts,brts->bhtr", torch.ones_like(a) if wrong.relations_unweighted else a, rho)
    relations = einsum("bhtr,hre->bhte", seen, w) / (rho.shape[1] if wrong.mean_of_relations else 1)
    symbols = z[:, :, : a.shape[2]] if wrong.symbol_unweighted and a.shape[2] == a.shape[3] else a @ z
    symbols = symbols * (rho.shape[1] if wrong.symbol_per_relation else 1)
    return (0 if wrong.symbols_only else relations) + (0 if wrong.no_symbol else symbols)


@exercises.add(
    cases=[
        case("one pair", torch.tensor([[2]]), torch.tensor([[1]]), torch.tensor([2]), 3),
        case(
            "two pairs, the first is asked for",
            torch.tensor([[1, 0]]),
            torch.tensor([[2, 1]]),
            torch.tensor([1]),
            3,
        ),
        case(
            "two sequences",
            torch.tensor([[1, 0], [2, 1]]),
            torch.tensor([[2, 1], [0, 0]]),
            torch.tensor([0, 2]),
            3,
        ),
    ],
    hints=(
        "F.one_hot(keys, size) is (b, n, size); a zero of the same shape fills the other half.",
        "torch.cat joins the halves in the last axis and, after them, the question in the axis of tokens.",
    ),
)
def my_dictionary(keys, values, question, size):
    hot = F.one_hot(keys, size), F.one_hot(values, size)
    asked = torch.cat([F.one_hot(question, size), torch.zeros(len(question), size)], -1)
    return torch.cat([torch.cat(hot, -1), asked[:, None]], 1).double()


@my_dictionary.mistakes(
    question_first="The question stands last: with a causal mask it could see nothing in front.",
    halves_swapped="Key first, value second, in each token.",
    value_of_question="The token of the question holds the key alone; its second half is zero.",
    no_question="The question is missing: it is one more token.",
    question_among_values="The question holds a key, so it stands in the first half of its token.",
    question_as_place="`question` is a key itself, not the number of a pair.",
    interleaved="In each token the key's one-hot vector comes as a whole, then the value's; yours alternate.",
)
def _(keys, values, question, size, *, wrong):
    hot = [F.one_hot(keys, size), F.one_hot(values, size)]
    pairs = torch.cat(hot[::-1] if wrong.halves_swapped else hot, -1)
    if wrong.interleaved:
        pairs = torch.stack(hot, -1).flatten(2)
    if wrong.question_as_place:
        question = keys.gather(1, (question % keys.shape[1])[:, None])[:, 0]
    second = F.one_hot(question, size) if wrong.value_of_question else torch.zeros(len(question), size)
    asked = torch.cat([F.one_hot(question, size), second], -1)[:, None]
    if wrong.interleaved:
        asked = asked.unflatten(-1, (2, size)).mT.flatten(2)
    if wrong.question_among_values:
        asked = asked.roll(size, -1)
    parts = [pairs] if wrong.no_question else [asked, pairs] if wrong.question_first else [pairs, asked]
    return torch.cat(parts, 1).double()
