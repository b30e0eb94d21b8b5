"""What the exercises on attention ask, and the mistakes that learners make."""

import torch
from torch import einsum
from torch.nn import functional as F

from course_lib.classroom.answers import Exercises, case, no_tensor_above, normal
from course_lib.layers import attention

exercises = Exercises("layers/attention")
check, solution = exercises.check, exercises.solution


# ------------------------------------------------------------------------------ 1. memory of a chat


@exercises.add(
    cases=[
        case("one token, every head with keys of its own", 1, 2, 2, 4, 1, 4),
        case("one head for all (multi-query)", 3, 4, 1, 8, 1, 4),
        case("groups of heads", 3, 8, 2, 16, 1, 4),
        case("many layers", 5, 2, 2, 4, 3, 4),
        case("half precision", 5, 2, 1, 6, 2, 2),
        case("a real decoder", 4096, 32, 8, 4096, 32, 2),
    ],
    hints=(
        "Of each past token, each layer keeps one key and one value a key-value head.",
        "A head is dim / num_heads numbers wide, whether or not it shares its keys.",
    ),
)
def my_cache_bytes(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number):
    kept = {"num_layers": num_layers, "dtype": {2: torch.float16, 4: torch.float32}[bytes_per_number]}
    return attention.kv_cache_bytes(length, num_kv_heads, dim // num_heads, **kept)


@my_cache_bytes.mistakes(
    keys_only="You counted the keys. What else does attention need of a past token?",
    queries_too="Queries of past tokens are never used again: only keys and values are kept.",
    query_heads="Count the key-value heads, not the query heads: sharing is there to save memory.",
    narrower_heads="Sharing removes heads, it does not make the others narrower: a head is dim / num_heads wide.",
    one_layer="Every layer has keys and values of its own.",
    numbers="You counted numbers. How many bytes does each of them take?",
    squared="The matrix of scores (length times length) is not kept: only keys and values are.",
)
def counted(length, num_heads, num_kv_heads, dim, num_layers, bytes_per_number, *, wrong):
    width = dim // num_heads
    if wrong.narrower_heads:
        width = width * num_kv_heads // num_heads
    heads = num_heads if wrong.query_heads else num_kv_heads
    kinds = 2 - wrong.keys_only + wrong.queries_too
    per_token = (
        kinds
        * heads
        * width
        * (1 if wrong.one_layer else num_layers)
        * (1 if wrong.numbers else bytes_per_number)
    )
    return length * per_token * (length if wrong.squared else 1)


# ------------------------------------------------------------------------- 2. attention in three steps


def _queries_and_keys():
    yield case("one query, two keys of width 2", normal(1, 1, 1, 2), normal(1, 1, 2, 2))
    yield case("as many keys as queries, width 4", normal(1, 1, 3, 4), normal(1, 1, 3, 4, seed=1))
    yield case("two heads, two sequences", normal(2, 2, 3, 5), normal(2, 2, 4, 5))


@exercises.add(
    cases=_queries_and_keys,
    hints=(
        "One number for each sequence b, head h, query t and key s: which letter of q and k is summed over?",
        "The inner product of two random vectors of width e has the size of the root of e: divide by it.",
    ),
)
def my_scores(q, k):
    return einsum("bhte,bhse->bhts", q, k) / q.shape[-1] ** 0.5


@my_scores.mistakes(
    unscaled="Inner products grow with the width of a head. The statement says by what they are divided.",
    by_width="You divide by e. Divide by its root: the inner product has that size.",
    multiplied="You multiply by the root of e where you should divide.",
    queries_for_width="You divide by the root of another size than e, the last axis of q.",
    keys_first="Your axes are (b, h, s, t): queries come first, then keys.",
)
def scored(q, k, *, wrong):
    size = q.shape[-2] if wrong.queries_for_width else q.shape[-1]
    power = 0 if wrong.unscaled else -1 if wrong.by_width else 0.5 if wrong.multiplied else -0.5
    scores = q @ k.mT * size**power
    return scores.mT if wrong.keys_first else scores


def _score_matrices():
    yield case("two tokens", normal(1, 1, 2, 2))
    yield case("three tokens", normal(1, 1, 3, 3))
    yield case("two heads, two sequences, one token", normal(2, 2, 1, 1))
    yield case("two heads, two sequences", normal(2, 2, 4, 4))
    yield case("large scores", 800 + 5 * normal(1, 2, 3, 3))


@exercises.add(
    cases=_score_matrices,
    hints=(
        "The softmax has to see the future as minus infinity; then each row still adds up to one.",
        "torch.ones(t, t, dtype=torch.bool).triu(1) is True where s > t; masked_fill writes a number there.",
    ),
)
def my_causal_weights(scores):
    t = scores.shape[-1]
    bias = torch.zeros(t, t).masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -torch.inf)
    return (scores + bias).softmax(-1)


@my_causal_weights.mistakes(
    no_mask="Tokens see the future: weight [t, s] must be zero for s > t.",
    own_token_hidden="A token sees itself, too: mask s > t, not s >= t. (The first token then sees nothing at all.)",
    past_hidden="You hide the past and show the future: weight [t, s] must be zero for s > t, above the diagonal.",
    mask_after="The mask comes before the softmax: weights that are set to zero afterwards leave rows that add up to less than one.",
    zero_scores="A score of 0 is no mask: exp(0) = 1. What score does the exponential turn into 0?",
    over_queries="Your softmax runs down the columns (the queries). Each query's weights, a row, must add up to one.",
    over_all="Your softmax runs over the whole matrix; each row must add up to one.",
    no_softmax="These are masked scores, not weights: a softmax makes each row positive and adds it up to one.",
)
def weighted(scores, *, wrong):
    t = scores.shape[-1]
    hidden = torch.ones(t, t, dtype=torch.bool).triu(0 if wrong.own_token_hidden else 1)
    if wrong.past_hidden:
        hidden = hidden.T
    if wrong.no_mask:
        hidden = torch.zeros_like(hidden)
    fill = 0.0 if wrong.zero_scores else -1e9 if wrong.own_token_hidden else -torch.inf
    masked = scores if wrong.mask_after else scores.masked_fill(hidden, fill)
    if wrong.no_softmax:
        return masked.clamp(min=-1e30)
    weights = (
        masked.flatten(-2).softmax(-1).view_as(masked)
        if wrong.over_all
        else masked.softmax(-2 if wrong.over_queries else -1)
    )
    return weights.masked_fill(hidden, 0.0) if wrong.mask_after else weights


def _tokens_and_weights():
    def given(b, t, d, h, e):
        return (normal(b, t, d), *(normal(h, d, e, seed=i) for i in (1, 2, 3)), normal(h, e, d))

    yield case("one token, one head", *given(1, 1, 2, 1, 2))
    yield case("two tokens, one head", *given(1, 2, 2, 1, 2))
    yield case("heads that are not width d / h", *given(1, 3, 4, 3, 2))
    yield case("two sequences, two heads", *given(2, 5, 6, 2, 3))


@exercises.add(
    cases=_tokens_and_weights,
    hints=(
        'Queries are einsum("btd,hde->bhte", x, wq); keys and values likewise.',
        "Your two functions turn them into weights (b, h, t, s); what remains is two einsums, one with v, one with wo.",
    ),
)
def my_attention(x, wq, wk, wv, wo):
    q, k, v = (einsum("btd,hde->bhte", x, w) for w in (wq, wk, wv))
    return einsum("bhte,hed->btd", F.scaled_dot_product_attention(q, k, v, is_causal=True), wo)


@my_attention.mistakes(
    no_scale="Inner products grow with the width of a head; your scores are not divided by anything.",
    width_of_the_stream="You divide by the root of d, the width of the stream. Each head is only e wide.",
    by_width="You divide by e; divide by its root.",
    over_queries="Your softmax runs over the queries. Each query's weights over the keys must add up to one.",
    over_heads="Your softmax runs over the heads. Each query's weights over the keys must add up to one.",
    mask_too_late="You mask after the softmax: the rows no longer add up to one. Mask the scores.",
    no_mask="Tokens see the future: token t may see the tokens 0, ..., t.",
    past_hidden="You hide the past and show the future.",
    own_token_hidden="Your tokens do not see themselves: token t sees 0, ..., t.",
    keys_for_values="What is mixed are the keys in your answer; it should be the values.",
    values_for_keys="Scores compare queries with keys; yours compare them with the values.",
    one_head="Every head gives the same in your answer: give each its own slice of the weights.",
    mean_of_heads="The heads' messages are added up, not averaged.",
    turned="Your weights are used as (t, s) turned round: the sum runs over the keys s.",
    adds_input="The input is not added: the residual stream is the business of the block around the layer.",
)
def attended(x, wq, wk, wv, wo, *, wrong):
    if wrong.one_head:
        wq, wk, wv = (w[:1].expand_as(w) for w in (wq, wk, wv))
    q, k, v = (einsum("btd,hde->bhte", x, w) for w in (wq, wk, wv))
    size = (
        1
        if wrong.no_scale
        else x.shape[-1]
        if wrong.width_of_the_stream
        else q.shape[-1] ** (2 if wrong.by_width else 1)
    )
    scores = einsum("bhte,bhse->bhts", q, v if wrong.values_for_keys else k) / size**0.5
    t = x.shape[1]
    future = torch.ones(t, t, dtype=torch.bool).triu(0 if wrong.own_token_hidden else 1)
    if wrong.past_hidden:
        future = future.T
    if wrong.no_mask:
        future = torch.zeros_like(future)
    fill = -1e9 if wrong.own_token_hidden or wrong.over_heads else -torch.inf
    masked = scores if wrong.mask_too_late else scores.masked_fill(future, fill)
    weights = masked.softmax(2 if wrong.over_queries else 1 if wrong.over_heads else 3)
    if wrong.mask_too_late:
        weights = weights.masked_fill(future, 0.0)
    heads = (weights.mT if wrong.turned else weights) @ (k if wrong.keys_for_values else v)
    sent = einsum("bhte,hed->btd", heads, wo) / (len(wo) if wrong.mean_of_heads else 1)
    return sent + x if wrong.adds_input else sent


# --------------------------------------------------------------------------- 3. shared keys and values


def _queries_and_groups():
    def given(b, h, g, t, s, e):
        return normal(b, h, t, e), normal(b, g, s, e), normal(b, g, s, e, seed=1)

    yield case("two heads, one group (multi-query)", *given(1, 2, 1, 1, 2, 2))
    yield case("two heads, two groups (multi-head)", *given(1, 2, 2, 1, 2, 2))
    yield case("four heads, two groups: neighbours share", *given(1, 4, 2, 1, 2, 2))
    yield case("six heads, two groups, two sequences", *given(2, 6, 2, 4, 5, 3))
    yield case("as many keys as queries", *given(1, 4, 2, 3, 3, 4))


@exercises.add(
    cases=_queries_and_groups,
    hints=(
        "With H = 4 and G = 2: heads 0 and 1 read group 0, heads 2 and 3 read group 1.",
        "Either repeat each group (repeat_interleave), or split the heads: q.unflatten(1, (G, H // G)).",
    ),
)
def my_grouped_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


@my_grouped_attention.mistakes(
    taking_turns="Your heads take turns (0, 1, 0, 1, ...). Neighbours share: 0, 0, 1, 1.",
    first_group_only="All heads read the first group.",
    mean_memory="You average the groups; each head reads one of them.",
    shared_queries="You average the queries of a group. Queries are each head's own; keys and values are shared.",
    causal="There is no mask in this exercise: every query sees every key.",
    unscaled="The scores are not divided by the root of the width e.",
    by_all_widths="You divide by the root of H e, the width of all heads together; a head is e wide.",
    over_queries="The softmax runs over the queries; each query's weights over the keys must add up to one.",
    keys_for_values="What is mixed are the keys in your answer; it should be the values.",
)
def grouped(q, k, v, *, wrong):
    heads, groups = q.shape[1], k.shape[1]
    index = torch.arange(heads) % groups if wrong.taking_turns else torch.arange(heads) * groups // heads
    if wrong.first_group_only:
        index = torch.zeros_like(index)
    if wrong.mean_memory:
        k, v = k.mean(1, keepdim=True), v.mean(1, keepdim=True)
        index = torch.zeros_like(index)
    if wrong.shared_queries:
        means = q.unflatten(1, (groups, -1)).mean(2)
        q = means.repeat_interleave(heads // groups, 1)
    k, v = k[:, index], v[:, index]
    scores = q @ k.mT
    scores = (
        scores if wrong.unscaled else scores / (q.shape[-1] * (heads if wrong.by_all_widths else 1)) ** 0.5
    )
    if wrong.causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-2 if wrong.over_queries else -1) @ (k if wrong.keys_for_values else v)


# ------------------------------------------------------------------------------- 4. memory and energy


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
)
def updated(state, patterns, beta, *, wrong):
    factor = 1 if wrong.no_beta or wrong.beta_outside else 1 / beta if wrong.divided_scores else beta
    weights = (factor * state @ patterns.T / (state.shape[-1] ** 0.5 if wrong.root_of_width else 1)).softmax(
        0 if wrong.over_states else -1
    )
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
)
def energy(state, patterns, beta, *, wrong):
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
    largest = patterns.square().sum(-1).max()
    largest = (largest.sqrt() if wrong.largest_not_squared else largest) / (
        1 if wrong.largest_not_halved else 2
    )
    constants = (0 if wrong.no_log_n else count / (1 if wrong.log_n_undivided else beta)) + (
        0 if wrong.no_largest else largest
    )
    square = state.square().sum(-1) / (1 if wrong.no_half else 2)
    total = (lse if wrong.upside_down else -lse) + square + (0 if wrong.no_constants else constants)
    return total.sum() if wrong.one_energy else total


# ------------------------------------------------------------------------------------ 5. find the bugs


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
)
def all_attention(q, k, v, slot_keys, slot_values, *, wrong):
    n, t = slot_keys.shape[1], q.shape[2]
    root = q.shape[-1] ** 0.5
    to_slots = einsum("bhte,hne->bhtn", q, slot_keys) / (
        1 if wrong.unscaled_slots or wrong.unscaled else root
    )
    to_context = q @ k.mT / (1 if wrong.unscaled_context or wrong.unscaled else root)
    future = torch.ones(t, t, dtype=torch.bool).triu(0 if wrong.own_token_hidden else 1)
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


# -------------------------------------------------------------------------------- 6. a counter-example


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
    return "" if gap < 1e-9 else f"is told apart: the last token's results differ by {gap:.3g}"


# -------------------------------------------------------------------------- 7. relations without pairs


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
)
def related(a, rho, z, w, *, wrong):
    if wrong.turned_relation and rho.shape[-1] == rho.shape[-2]:
        rho = rho.mT
    if wrong.softmax_on_relations:
        rho = rho.softmax(-1)
    if wrong.same_for_all_heads:
        w = w.mean(0, keepdim=True).expand_as(w)
    seen = einsum("bhts,brts->bhtr", torch.ones_like(a) if wrong.relations_unweighted else a, rho)
    relations = einsum("bhtr,hre->bhte", seen, w) / (rho.shape[1] if wrong.mean_of_relations else 1)
    symbols = z[:, :, : a.shape[2]] if wrong.symbol_unweighted and a.shape[2] == a.shape[3] else a @ z
    symbols = symbols * (rho.shape[1] if wrong.symbol_per_relation else 1)
    return (0 if wrong.symbols_only else relations) + (0 if wrong.no_symbol else symbols)


# ------------------------------------------------------------------------------- 8. what it is good for


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
)
def written(keys, values, question, size, *, wrong):
    hot = [F.one_hot(keys, size), F.one_hot(values, size)]
    pairs = torch.cat(hot[::-1] if wrong.halves_swapped else hot, -1)
    second = F.one_hot(question, size) if wrong.value_of_question else torch.zeros(len(question), size)
    asked = torch.cat([F.one_hot(question, size), second], -1)[:, None]
    parts = [pairs] if wrong.no_question else [asked, pairs] if wrong.question_first else [pairs, asked]
    return torch.cat(parts, 1).double()
