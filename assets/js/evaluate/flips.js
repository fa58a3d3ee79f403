// The problems that changed sides: two lists, and one of them opened with both responses side by side.

const answerText = (text) => (text === null || text === undefined ? 'none found' : text.length > 60 ? text.slice(0, 59) + '\u2026' : text);
const SIDES = { gained: ['Gained', 'wrong before, right after'], lost: ['Lost', 'right before, wrong after'] };

function createFlipLists(host) {
  let data = null, model = 1, drawn = '';
  const pick = el('select', { 'aria-label': 'Flips of which model' });
  const picker = el('label', { class: 'lr-pick', hidden: true }, el('span', { text: 'Model' }), pick);
  pick.addEventListener('change', () => { model = Number(pick.value); refresh(); });
  const lists = Object.fromEntries(Object.keys(SIDES).map((side) => [side, list(side)]));
  const says = el('p', { class: 'lr-muted' });
  const node = el('section', { class: 'lr-card lr-flips', 'aria-label': 'Problems that changed sides', hidden: true },
    el('div', { class: 'lr-top' }, el('h3', { text: 'Problems that changed sides' }), picker), says, el('div', { class: 'lr-flip-lists' }, lists.gained.node, lists.lost.node));

  function list(side) {
    const items = el('ol', { class: 'lr-flip-list' }), head = el('h4', { tabindex: '-1' }), none = el('p', { class: 'lr-muted', hidden: true, text: 'None.' }), error = el('p', { class: 'lr-error', hidden: true });
    const more = el('button', { type: 'button', hidden: true, text: 'Show more', onclick: () => load(items.childElementCount) });
    let asked = 0;
    async function load(start) {
      const mine = ++asked, answer = await host.listed(model, side, start);
      if (mine !== asked) return;
      error.hidden = !answer.error;
      error.textContent = answer.error || '';
      if (answer.error) return;
      const rows = answer.rows.map((row) => el('li', {}, el('button', { type: 'button', class: 'lr-flip-row', 'data-key': side + row.problem, onclick: () => host.open(model, row.problem) },
        el('span', { class: 'lr-flip-question', text: row.question }),
        el('span', { class: 'lr-flip-answers' }, said('Known', row.answer, ''), said('Before', answerText(row.before), side === 'gained' ? 'wrong' : 'right'), said('After', answerText(row.after), side === 'gained' ? 'right' : 'wrong')))));
      if (start) items.append(...rows); else drawOnce(items, [data.id, model, answer], () => rows); // not under somebody's hands
      if (start && rows[0]) rows[0].firstChild.focus();
      head.textContent = SIDES[side][0] + ' ' + whole(answer.total) + ' \u00b7 ' + SIDES[side][1];
      none.hidden = answer.total > 0;
      more.hidden = items.childElementCount >= answer.total;
    }
    return { node: el('div', {}, head, none, items, more, error), load, focus: () => { head.scrollIntoView({ block: 'center' }); head.focus({ preventScroll: true }); } };
  }
  function said(name, text, verdict) {
    const sign = { right: '\u2713', wrong: '\u2715' }[verdict];
    return el('span', { class: 'lr-flip-answer' + (verdict ? ' lr-' + verdict : '') }, el('span', { class: 'lr-muted', text: name + ' ' }), el('bdi', { text }), sign ? el('b', { text: ' ' + sign, 'aria-label': verdict }) : '');
  }
  function refresh() {
    const of = data.comparisons.find((c) => c.model === model) || data.comparisons[0];
    model = of.model;
    pick.value = String(model);
    says.textContent = 'Before: ' + data.models[0].name + '. After: ' + data.models[model].name + '. Open one to see where the two responses part.';
    for (const side of Object.keys(SIDES)) lists[side].load(0);
  }
  return { node,
    begin() { data = null; drawn = ''; model = 1; node.hidden = true; },
    update(now) { // the lists are asked for again only when a count has changed
      data = now;
      node.hidden = !data.comparisons.length;
      if (node.hidden) return;
      picker.hidden = data.comparisons.length < 2;
      drawOnce(pick, data.comparisons.map((c) => [c.model, data.models[c.model].name]), () => data.comparisons.map((c) => el('option', { value: c.model, text: data.models[c.model].name })));
      pick.value = String(model);
      const counts = JSON.stringify([data.id, data.comparisons.map((c) => [c.gained, c.lost])]);
      if (counts !== drawn && !(drawn && node.contains(document.activeElement))) { drawn = counts; refresh(); }
    },
    show(to, side) { model = to; refresh(); lists[side].focus(); } };
}

// One flip: the question, both responses, and both as heatmaps of what tuning changed.
function createFlip(host) {
  let at = null;
  const back = el('button', { type: 'button', text: '\u2039 Back to the evaluation', onclick: () => host.close() });
  const name = el('span', { class: 'lr-reader-name' }), error = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const question = el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem' }), known = el('p'), parts = el('p', { class: 'lr-muted' });
  const go = el('button', { type: 'button', class: 'lr-primary', text: 'Show what tuning changed', onclick: () => begin() });
  const doing = el('p', { class: 'lr-muted', role: 'status' }), legend = el('p', { class: 'lr-muted' });
  const sides = { before: column('before'), after: column('after') };
  const both = el('div', { class: 'lr-flip-sides' }, sides.before.node, sides.after.node);
  const node = el('section', { class: 'lr-reader lr-flip', 'aria-label': 'A problem that changed sides', hidden: true },
    el('div', { class: 'lr-card lr-reader-bar' }, back, name), error, el('div', { class: 'lr-card lr-flip-head' }, question, known, parts, go, doing, legend), both);

  function column(side) {
    const title = el('h3'), verdict = el('p'), text = el('pre', { class: 'lr-flip-text', tabindex: '0' }), link = el('a', { hidden: true, text: 'Open in Inspect' }), stage = el('div', { hidden: true });
    let record = null;
    const viewer = mountViewer(stage, {
      idle: '', kinds: [['png', 'A picture']],
      details: async (run, index) => ({ candidates: record.steps[index].candidates, tokens: record.tokens }),
      address: ({ run, step }) => link.setAttribute('href', '?trace=' + run + (step >= 0 ? '&step=' + step : '')),
    });
    return { node: el('div', { class: 'lr-flip-side', role: 'group' }, el('div', { class: 'lr-card lr-flip-said' }, title, verdict, link, text), stage),
      begin(answer) {
        record = null;
        title.textContent = (side === 'before' ? 'Before: ' : 'After: ') + answer.name;
        verdict.className = answer.right ? 'lr-right' : 'lr-wrong';
        verdict.replaceChildren(el('b', { text: answer.right ? '\u2713 right' : '\u2715 wrong' }), ', answer ', el('bdi', { text: answerText(answer.extracted) }), ' \u00b7 ' + plural(answer.tokens, 'token') + (answer.cut ? ', cut off' : ''));
        text.textContent = answer.response || '(an empty response)';
        text.setAttribute('aria-label', 'The response ' + side);
        text.hidden = false; stage.hidden = true; link.hidden = true;
      },
      show(found, step) {
        record = found;
        text.hidden = true; stage.hidden = false; link.hidden = false;
        showRecord(viewer, record);
        viewer.say('', false);
        if (step < record.steps.length) viewer.select(step, false);
      } };
  }
  const fail = (text) => { error.hidden = !text; error.textContent = text || ''; };

  async function open(model, problem) {
    const mine = (at = { model, problem });
    fail('');
    doing.textContent = legend.textContent = '';
    name.textContent = 'Problem ' + problem;
    const answer = await host.flip(model, problem);
    if (mine !== at) return;
    for (const part of [both, known, parts, question]) part.hidden = !!answer.error;
    go.hidden = true;
    if (answer.error) { fail(answer.error); return; }
    mine.answer = answer;
    question.textContent = answer.question;
    known.replaceChildren('Known answer: ', el('b', { text: answer.answer }));
    const shortest = Math.min(answer.before.tokens, answer.after.tokens);
    parts.textContent = answer.before.response === answer.after.response ? 'The two responses are the same.' : answer.shared === 0 ? 'The two responses part at the first token.' : answer.shared < shortest ? 'The two responses are the same for ' + plural(answer.shared, 'token') + ' and part there.' : 'One response is the beginning of the other.';
    for (const side of ['before', 'after']) sides[side].begin(answer[side]);
    const known_traces = answer.before.trace && answer.after.trace, empty = !answer.before.response.trim() || !answer.after.response.trim();
    go.hidden = !!known_traces || empty;
    if (empty) doing.textContent = 'An empty response has no tokens to look at.';
    back.focus({ preventScroll: true });
    node.scrollIntoView({ block: 'start' });
    if (known_traces) begin();
  }
  // Both models read both responses; what they compute stays on disk, so the next time it is there at once.
  async function begin() {
    const mine = at, held = document.activeElement === go;
    go.hidden = true;
    fail('');
    if (held) doing.setAttribute('tabindex', '-1'), doing.focus();
    for (const side of ['before', 'after']) {
      let answer = await host.score(mine.model, mine.problem, side);
      const trace = answer.trace;
      while (mine === at && !answer.error && !answer.record) {
        answer = await host.scored(trace);
        if (answer.status) { doing.textContent = answer.status + ' \u2026'; await new Promise((done) => setTimeout(done, 300)); }
      }
      if (mine !== at) return;
      if (answer.error) { fail(answer.error); doing.textContent = ''; go.hidden = false; return; }
      sides[side].show(answer.record, mine.answer.shared);
    }
    doing.textContent = '';
    legend.textContent = 'Colour: how far the two models are apart at each token of the response. The expert is \u201c' + mine.answer.after.name + '\u201d, the amateur \u201c' + mine.answer.before.name + '\u201d; the step where the responses part is selected.';
  }
  return { node, open, close() { at = null; } };
}
