// @ts-check
// The problems that changed sides: two lists, and one of them opened with both responses side by side.
import { createCurve } from '../inspect/kl_curve.js';
import { Viewer, showRecord } from '../inspect/viewer.js';
import { createErrorBox, el, replaceIfChanged } from '../shared/dom.js';
import { formatCount, plural } from '../shared/format.js';

const SIDES = { gained: ['Gained', 'wrong before, right after'], lost: ['Lost', 'right before, wrong after'] };
function answerText(text) {
  if (text === null || text === undefined) return 'no answer extracted';
  return text.length > 60 ? text.slice(0, 59) + '\u2026' : text;
}

export function createFlipLists(host) {
  let data = null, model = 1, drawn = '';
  const pick = el('select', { 'aria-label': 'Flips of which model' });
  const picker = el('label', { class: 'lr-pick', hidden: true }, el('span', { text: 'Model' }), pick);
  pick.addEventListener('change', () => { model = Number(pick.value); refresh(); });
  const lists = Object.fromEntries(Object.keys(SIDES).map((side) => [side, list(side)]));
  const says = el('p', { class: 'lr-muted' });
  const node = el('section', { class: 'lr-card lr-flips', 'aria-label': 'Problems that changed sides', hidden: true },
    el('div', { class: 'lr-top' }, el('h3', { text: 'Problems that changed sides' }), picker), says,
    el('div', { class: 'lr-flip-lists' }, lists.gained.node, lists.lost.node));

  function list(side) {
    const items = el('ol', { class: 'lr-flip-list' }), head = el('h4', { tabindex: '-1' });
    const none = el('p', { class: 'lr-muted', hidden: true, text: 'None.' }), error = createErrorBox();
    const more = el('button', { type: 'button', hidden: true, text: 'Show more',
      onclick: () => load(items.childElementCount) });
    let asked = 0;
    async function load(start) {
      const mine = ++asked, answer = await host.listed(model, side, start);
      if (mine !== asked || error.show(answer.error)) return;
      const rows = () => answer.rows.map((row) => flipRow(row, side));
      if (start) {
        const added = rows();
        items.append(...added);
        added[0]?.firstChild.focus();
      } else replaceIfChanged(items, [data.id, model, answer], rows);
      head.textContent = SIDES[side][0] + ' ' + formatCount(answer.total) + ' \u00b7 ' + SIDES[side][1];
      none.hidden = answer.total > 0;
      more.hidden = items.childElementCount >= answer.total;
    }
    const focus = () => { head.scrollIntoView({ block: 'center' }); head.focus({ preventScroll: true }); };
    return { node: el('div', {}, head, none, items, more, error.node), load, focus };
  }
  function flipRow(row, side) {
    const [before, after] = side === 'gained' ? ['wrong', 'right'] : ['right', 'wrong'];
    return el('li', {}, el('button', { type: 'button', class: 'lr-flip-row', 'data-key': side + row.problem,
      onclick: () => host.open(model, row.problem) },
    el('span', { class: 'lr-flip-question', text: row.question }),
    el('span', { class: 'lr-flip-answers' }, answer('Known', row.answer, ''),
      answer('Before', answerText(row.before), before), answer('After', answerText(row.after), after))));
  }
  function answer(name, text, grade) {
    const sign = { right: '\u2713', wrong: '\u2715' }[grade];
    return el('span', { class: 'lr-flip-answer' + (grade ? ' lr-' + grade : '') },
      el('span', { class: 'lr-muted', text: name + ' ' }), el('bdi', { text }),
      sign ? el('b', { text: ' ' + sign, 'aria-label': grade }) : '');
  }
  function refresh() {
    model = (data.comparisons.find((c) => c.model === model) || data.comparisons[0]).model;
    pick.value = String(model);
    says.textContent = 'Before: ' + data.models[0].name + '. After: ' + data.models[model].name +
      '. Open one to see where the two responses diverge.';
    for (const side of Object.keys(SIDES)) lists[side].load(0);
  }
  return { node,
    begin() { data = null; drawn = ''; model = 1; node.hidden = true; },
    update(now) { // the lists are loaded again only when a count changed
      data = now;
      node.hidden = !data.comparisons.length;
      if (node.hidden) return;
      picker.hidden = data.comparisons.length < 2;
      const names = data.comparisons.map((c) => [c.model, data.models[c.model].name]);
      replaceIfChanged(pick, names, () => names.map(([value, text]) => el('option', { value, text })));
      pick.value = String(model);
      const counts = JSON.stringify([data.id, data.comparisons.map((c) => [c.gained, c.lost])]);
      if (counts === drawn || (drawn && node.contains(document.activeElement))) return;
      drawn = counts;
      refresh();
    },
    show(to, side) { model = to; refresh(); lists[side].focus(); } };
}

// One flip: the question, both responses, and both as heatmaps of the change that tuning made.
export function createFlip(host) {
  let at = null;
  const back = el('button', { type: 'button', text: '\u2039 Back to the evaluation', onclick: host.close });
  const name = el('span', { class: 'lr-reader-name' }), error = createErrorBox();
  const question = el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem' });
  const known = el('p'), divergence = el('p', { class: 'lr-muted' });
  const go = el('button', { type: 'button', class: 'lr-primary', text: 'Show what tuning changed', onclick: compute });
  const status = el('p', { class: 'lr-muted', role: 'status' }), legend = el('p', { class: 'lr-muted' });
  const sides = { before: createSide('before'), after: createSide('after') };
  const both = el('div', { class: 'lr-flip-sides' }, sides.before.node, sides.after.node);
  const node = el('section', { class: 'lr-reader lr-flip', 'aria-label': 'A problem that changed sides', hidden: true },
    el('div', { class: 'lr-card lr-reader-bar' }, back, name), error.node,
    el('div', { class: 'lr-card lr-flip-head' }, question, known, divergence, go, status, legend), both);

  function createSide(side) {
    const title = el('h3'), grade = el('p'), text = el('pre', { class: 'lr-flip-text', tabindex: '0' });
    const link = el('a', { hidden: true, text: 'Open in Inspect' }), stage = el('div', { hidden: true });
    let record = null;
    const viewer = new Viewer(stage, {
      curve: createCurve,
      idle: '', kinds: [['png', 'A picture']],
      details: async (run, index) => ({ candidates: record.steps[index].candidates, tokens: record.tokens }),
      address: ({ run, step }) => link.setAttribute('href', '?trace=' + run + (step >= 0 ? '&step=' + step : '')),
    });
    function showResponse(answer) {
      record = null;
      title.textContent = (side === 'before' ? 'Before: ' : 'After: ') + answer.name;
      grade.className = answer.right ? 'lr-right' : 'lr-wrong';
      grade.replaceChildren(el('b', { text: answer.right ? '\u2713 right' : '\u2715 wrong' }), ', answer ',
        el('bdi', { text: answerText(answer.extracted) }),
        ' \u00b7 ' + plural(answer.tokens, 'token') + (answer.cut ? ', cut off' : ''));
      text.textContent = answer.response || '(an empty response)';
      text.setAttribute('aria-label', 'The response ' + side);
      text.hidden = false;
      stage.hidden = link.hidden = true;
    }
    function showTrace(trace, step) {
      record = trace;
      text.hidden = true;
      stage.hidden = link.hidden = false;
      showRecord(viewer, record);
      viewer.setStatus('', false);
      if (step < record.steps.length) viewer.select(step, false);
    }
    return { showResponse, showTrace, node: el('div', { class: 'lr-flip-side', role: 'group' },
      el('div', { class: 'lr-card lr-flip-response' }, title, grade, link, text), stage) };
  }
  function whereTheyDiverge({ before, after, shared }) {
    if (before.response === after.response) return 'The two responses are the same.';
    if (shared === 0) return 'The two responses diverge at the first token.';
    if (shared >= Math.min(before.tokens, after.tokens)) return 'One response is the beginning of the other.';
    return 'The two responses are the same for ' + plural(shared, 'token') + ' and diverge there.';
  }

  async function open(model, problem) {
    const mine = (at = { model, problem });
    error.show('');
    status.textContent = legend.textContent = '';
    name.textContent = 'Problem ' + problem;
    const answer = await host.flip(model, problem);
    if (mine !== at) return;
    for (const part of [both, known, divergence, question]) part.hidden = !!answer.error;
    go.hidden = true;
    if (error.show(answer.error)) return;
    mine.answer = answer;
    const { before, after } = answer;
    question.textContent = answer.question;
    known.replaceChildren('Known answer: ', el('b', { text: answer.answer }));
    divergence.textContent = whereTheyDiverge(answer);
    sides.before.showResponse(before);
    sides.after.showResponse(after);
    const computed = before.trace && after.trace, empty = !before.response.trim() || !after.response.trim();
    go.hidden = !!computed || empty;
    if (empty) status.textContent = 'An empty response has no tokens to look at.';
    back.focus({ preventScroll: true });
    node.scrollIntoView({ block: 'start' });
    if (computed) compute();
  }
  // Both models score both responses; the server saves the traces, so the next time they are there at once.
  async function compute() {
    const mine = at, focused = document.activeElement === go;
    go.hidden = true;
    error.show('');
    if (focused) { status.setAttribute('tabindex', '-1'); status.focus(); }
    for (const side of Object.keys(sides)) {
      const answer = await scored(mine, side);
      if (mine !== at) return;
      if (error.show(answer.error)) { status.textContent = ''; go.hidden = false; return; }
      sides[side].showTrace(answer.record, mine.answer.shared);
    }
    status.textContent = '';
    legend.textContent = 'Colour: how far the two models are apart at each token of the response. The expert is \u201c' +
      mine.answer.after.name + '\u201d, the amateur \u201c' + mine.answer.before.name +
      '\u201d; the step where the responses diverge is selected.';
  }
  async function scored(mine, side) {
    let answer = await host.score(mine.model, mine.problem, side);
    const { trace } = answer;
    while (mine === at && !answer.error && !answer.record) {
      answer = await host.scored(trace);
      if (!answer.status) continue;
      status.textContent = answer.status + ' \u2026';
      await new Promise((done) => setTimeout(done, 300));
    }
    return answer;
  }
  return { node, open, close() { at = null; } };
}
