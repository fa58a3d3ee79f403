// One step: the expert, the amateur, the contrastive target and, where one reads along, the tuned expert as bars over
// the same tokens.

const ROWS = 10;
const NOT_STORED = 'What the two models expected here was not stored, because they hardly diverge; a dataset built with details of every step has it.';

function createStepView(actions) {
  const node = el('section', { class: 'lr-card lr-step', 'aria-label': 'The selected step' });
  let shown = null, alphaNow = PAPER.alpha;

  const alphaOut = el('output', { class: 'lr-number' });
  const slider = el('input', { type: 'range', min: PAPER.alphaFloor, max: '1', step: '0.01', value: PAPER.alpha, 'aria-label': 'Alpha, the plausibility threshold' });
  slider.addEventListener('input', () => actions.alpha(Number(slider.value)));
  const alphaRow = el('label', { class: 'lr-slider', title: 'A token is plausible if the expert gives it at least \u03b1 times the probability of its favourite. Only plausible tokens can be reinforced.' },
    el('span', { text: '\u03b1 mask' }), slider, alphaOut);

  function empty(hasSteps) {
    shown = null;
    node.removeAttribute('aria-busy'); // what was waited for is no longer wanted
    node.replaceChildren(
      el('h3', { text: 'Step view' }),
      el('p', { class: 'lr-muted', text: hasSteps
        ? 'Select a token, in the text or in the curve, to see what both models expected there.'
        : 'Once the expert writes, select any token to see what both models expected there, and what training would reinforce.' }));
  }

  function fact(name, value, title) {
    return el('div', { class: 'lr-fact', title }, el('dt', { text: name }), el('dd', { text: value }));
  }

  function bars(rowData) {
    const box = el('div', { class: 'lr-bars' });
    for (const [who, p] of [['expert', rowData.e], ['amateur', rowData.a], ['target', rowData.c], ['tuned', rowData.t]]) {
      if (p === undefined) continue;
      box.append(el('div', { class: 'lr-bar lr-' + who },
        el('span', { class: 'lr-track' }, el('i', { style: 'width:' + (p * 100).toFixed(2) + '%' })),
        el('span', { class: 'lr-value', text: who === 'target' && !rowData.plausible ? '\u2013' : percent(p) })));
    }
    return box;
  }

  function tableRow(row, step) {
    const taken = row.id === step.token_id;
    const go = el('button', { type: 'button', class: 'lr-branch', 'aria-label': 'Continue from here with ' + tokenName(row.text),
      title: taken ? 'This is the token that was taken' : 'Continue from here with this token', disabled: taken || !actions.branch,
      text: taken ? 'taken' : '\u21b3 go' });
    if (!taken && actions.branch) go.addEventListener('click', () => actions.branch(step.index, row.id));
    return el('li', { class: 'lr-row' + (row.plausible ? '' : ' lr-masked') + (taken ? ' lr-taken' : '') },
      el('span', { class: 'lr-label', title: 'token ' + row.id, text: tokenLabel(row.text) }),
      bars(row),
      el('span', { class: 'lr-contribution', title: 'log-ratio: log \u03c0E \u2212 log \u03c0A' , text: signed(row.ratio, 2) }),
      el('span', { class: 'lr-contribution', title: 'this token\u2019s part of the KL: \u03c0E \u00b7 (log \u03c0E \u2212 log \u03c0A)', text: signed(row.part) }),
      actions.branch || taken ? go : el('span'));
  }

  function rowsOf(step, details, alpha) {
    const { logE, logA, plausible, weights } = contrast(details.candidates, alpha);
    const logT = details.candidates.tuned_logprobs;
    const all = details.candidates.ids.map((id, i) => {
      const t = logT && Math.exp(finite(logT[i], -Infinity));
      const e = Math.exp(logE[i]), a = Math.exp(logA[i]), ratio = logE[i] - logA[i];
      return { id, text: details.tokens[id] === undefined ? '[' + id + ']' : details.tokens[id], e, a, t, c: weights[i], plausible: plausible[i], ratio, part: e > 0 ? e * ratio : 0 };
    });
    const largest = (row) => Math.max(row.e, row.a, row.c, row.t || 0);
    const keep = new Set([...all].sort((x, y) => largest(y) - largest(x)).slice(0, ROWS));
    all.forEach((row) => { if (row.id === step.token_id) keep.add(row); });
    return { all, rows: all.filter((row) => keep.has(row)) };
  }

  function trainingRow(run, step, all) {
    const inside = all.filter((row) => row.plausible && row.c > 0);
    return { problem_id: run.problem_id, step: step.index, prefix_tokens: run.prompt_tokens + step.index,
      tokens: inside.map((r) => r.text), token_ids: inside.map((r) => r.id),
      weights: inside.map((r) => Number(r.c.toPrecision(6))), kl_divergence: step.kl };
  }

  function show(run, step, details, alpha, beta) {
    const scroll = node.scrollTop, open = node.querySelector('details') && node.querySelector('details').open;
    shown = step.index; alphaNow = alpha;
    slider.value = alpha; alphaOut.textContent = alpha.toFixed(2);
    const kl = finite(step.kl), above = kl > beta, held = document.activeElement === slider;
    node.replaceChildren(...head(step, kl, above), ...(details.candidates ? distributions(run, step, details, kl, above, open) : [el('p', { class: 'lr-muted lr-unstored', text: details.why || NOT_STORED })]));
    node.scrollTop = scroll;
    if (held) slider.focus();
  }

  // What there is of every step: its verdict and its measures.
  function head(step, kl, above) {
    const probability = (x) => (x === null ? 'not shared' : percent(Math.exp(x)));
    const rank = (x) => (x === null ? '' : ' (rank ' + x.toLocaleString('en') + ')');
    const three = step.tuned_kl !== undefined;
    return [
      el('div', { class: 'lr-step-head' },
        el('h3', {}, 'Step ' + step.index + ' ', el('code', { text: tokenLabel(step.text) })),
        el('div', { class: 'lr-step-move' },
          el('button', { type: 'button', title: 'Previous step above \u03b2 (p)', 'aria-label': 'Previous step above beta', onclick: () => actions.move(-1), text: '\u2039 p' }),
          el('button', { type: 'button', title: 'Next step above \u03b2 (n)', 'aria-label': 'Next step above beta', onclick: () => actions.move(1), text: 'n \u203a' }))),
      el('p', { class: 'lr-verdict' + (above ? ' lr-yes' : '') },
        el('b', { text: 'KL ' + nats(kl) + ' nats' }), above ? ' \u2013 above \u03b2, selected for training.' : ' \u2013 not above \u03b2, left alone.',
        step.agree ? '' : ' The two models prefer different tokens.'),
      el('dl', { class: 'lr-facts' },
        fact('Expert gave the token', probability(step.expert_logprob) + rank(step.expert_rank)),
        fact('Amateur gave it', probability(step.amateur_logprob) + rank(step.amateur_rank)),
        fact('Entropy, expert', nats(step.expert_entropy), SAYS.expert_entropy),
        fact('Entropy, amateur', nats(step.amateur_entropy), SAYS.amateur_entropy),
        fact('Reverse KL', nats(finite(step.reverse_kl)), 'KL(amateur \u2016 expert) in nats'),
        fact('Jensen\u2013Shannon', nats(step.js), SAYS.js),
        three ? fact('Tuned expert gives it', probability(step.tuned_logprob) + rank(step.tuned_rank)) : null,
        three ? fact('Training moved', nats(finite(step.tuned_kl)) + ' nats', 'KL(tuned expert \u2016 expert); the other way round it is ' + nats(finite(step.tuned_reverse_kl)) + ' nats') : null),
    ];
  }

  // What there is where the candidates were kept: the three distributions and the training row.
  function distributions(run, step, details, kl, above, open) {
    const { all, rows } = rowsOf(step, details, alphaNow);
    const list = el('ol', { class: 'lr-rows' });
    list.append(el('li', { class: 'lr-row lr-head' }, ...['token', 'probability', 'log-ratio', 'KL part', ''].map((text) => el('span', { text }))));
    let line = false;
    for (const row of rows) {
      if (!row.plausible && !line) { list.append(el('li', { class: 'lr-mask-line', text: '\u03b1-mask: below this, too unlikely for the expert to be reinforced' })); line = true; }
      list.append(tableRow(row, step));
    }
    const three = rows[0].t !== undefined;
    const rest = { t: three && 1 - rows.reduce((s, r) => s + r.t, 0), e: 1 - rows.reduce((s, r) => s + r.e, 0), a: 1 - rows.reduce((s, r) => s + r.a, 0), part: kl - rows.reduce((s, r) => s + r.part, 0) };
    list.append(el('li', { class: 'lr-rest', text: 'All other tokens: expert ' + percent(Math.max(0, rest.e)) + ', amateur ' + percent(Math.max(0, rest.a)) +
      (three ? ', tuned ' + percent(Math.max(0, rest.t)) : '') +
      (Number.isFinite(rest.part) ? ', KL part ' + signed(rest.part) : '') }));
    const training = el('details', { class: 'lr-training', open: open },
      el('summary', { text: above ? 'The training row' : 'The training row, were \u03b2 lower' }),
      el('p', { class: 'lr-muted', text: 'Fine-tuning pulls the expert\u2019s next-token distribution after this prefix towards these weights.' }),
      el('pre', { text: Object.entries(trainingRow(run, step, all)).map(([name, value]) => name + ': ' + JSON.stringify(value)).join('\n') }));
    return [
      three ? el('p', { class: 'lr-moved', text: movedSentence(all, step.tuned_changed) }) : null,
      alphaRow,
      el('div', { class: 'lr-key' },
        el('span', { class: 'lr-expert', text: 'Expert' }), el('span', { class: 'lr-amateur', text: 'Amateur' }), el('span', { class: 'lr-target', text: 'Contrastive target' }),
        three ? el('span', { class: 'lr-tuned', text: 'Tuned expert E\u2032' }) : null),
      list, training].filter(Boolean);
  }

  empty(false);
  return { node, show, empty, wait(i) { if (shown !== i) node.setAttribute('aria-busy', 'true'); }, ready() { node.removeAttribute('aria-busy'); } };
}
