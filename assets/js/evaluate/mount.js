// @ts-check
// The Evaluate tab on the Gradio page.
import { address } from '../shared/address.js';
import { createErrorBox, el } from '../shared/dom.js';
import { createCalls, pollWhileVisible, scrollToResult } from '../shared/poll.js';
import { createRunList, isActive, stateWord } from '../shared/run_list.js';
import { createOverview } from './cost_table.js';
import { createFlip } from './flips.js';
import { createEvaluation } from './run.js';

export function mount({ element, props, trigger, server }) {
  const TAB = 'evaluate';
  let open = null, filling = null, flip = null, marks = {}, parts = {}, looked = 0, busy = false, tuned = null;
  const call = createCalls(server);

  const allResults = el('button', { type: 'button', text: 'All results', onclick: () => show(null, true) });
  const list = createRunList({ title: 'Evaluations', running: 'Running', aside: allResults, facts: (e) => [e.facts],
    onOpen: (id) => show(id, true) });
  const run = createEvaluation({
    listed: (model, side, start) => call('listed', open, model, side, start),
    open: (model, problem) => read(model, problem),
    act: async (name) => { const answer = await call('act', open, name); look(true); return answer; },
    remove: async () => {
      const answer = await call('discard', open);
      if (!answer.error) { show(null); document.getElementById('lr-tab-evaluate-button').focus(); }
      return answer;
    },
  });
  const reader = createFlip({
    flip: (model, problem) => call('flip', open, model, problem),
    score: (model, problem, side) => call('score', open, model, problem, side),
    scored: (trace) => call('scored', trace),
    close: () => {
      const row = flip && run.node.querySelector('.lr-flip-row[data-key$="' + CSS.escape(flip.problem) + '"]');
      flip = null;
      reader.close(); place(); writeAddress(); look(true);
      (row || run).focus();
    },
  });
  const overview = createOverview();
  const empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }),
    ...props.intro.sentences.map((text) => el('p', { text })));
  const error = createErrorBox(), announce = el('div', { class: 'lr-unseen', role: 'status' });
  const root = element.querySelector('.lr-root');
  // a flip's viewers are inside: no part of them is hidden
  root.classList.add('lr', 'lr-data', 'lr-evaluate', 'lr-has-run');
  root.replaceChildren(error.node, announce, list.node, empty, run.node, overview.node, reader.node);

  function writeAddress() {
    address.set(TAB, { run: open || filling, model: flip && flip.model, problem: flip && flip.problem });
  }
  function place() { // the list and what is open, or one flip
    for (const node of [list.node, run.node, overview.node]) node.classList.toggle('lr-away', !!flip);
    reader.node.hidden = !flip;
  }
  function show(id, focus) {
    open = id; filling = flip = null; looked += 1;
    marks = { evaluations: marks.evaluations, overview: marks.overview };
    reader.close(); run.hide(); overview.hide();
    error.show('');
    place(); writeAddress();
    look(true).then(() => focus && open && run.focus());
  }
  function read(model, problem) { flip = { model, problem }; place(); writeAddress(); reader.open(model, problem); }

  // The state of the list and of what is open; the server leaves out what the page has already.
  async function look(all) {
    if (busy && !all) return;
    busy = true;
    const mine = (looked += all ? 1 : 0), answer = await call('look', open || filling, !open, marks);
    busy = false;
    if (mine !== looked) return; // a later request is on its way
    error.show(answer.error);
    if (!answer.marks) return;
    marks = { ...marks, ...answer.marks };
    for (const part of ['evaluations', 'overview']) if (part in answer) parts[part] = answer[part];
    if (answer.fills && open) { fillForm(answer); return; }
    if (tuned !== answer.tuned) { tuned = answer.tuned; trigger('tuned', {}); }
    list.show(parts.evaluations, open);
    allResults.hidden = !open;
    empty.hidden = parts.evaluations.length > 0 || !!open;
    if (open) overview.hide(); else if (parts.overview) overview.show(parts.overview);
    if (answer.open) showOpen(answer.open);
    else if (answer.error) run.hide();
  }
  function fillForm(answer) { // the address names a fine-tuning run that is to be evaluated
    filling = open;
    open = null;
    trigger('prefill', { run: filling });
    tuned = answer.tuned;
    look(true);
  }
  function showOpen(now) {
    const before = run.data;
    run.show(now);
    if (before && before.state !== now.state) {
      announce.textContent = now.name + ': ' + stateWord(now.state, 'Running').toLowerCase();
    }
  }
  pollWhileVisible(element, () => run.data && isActive(run.data.state), () => { if (!flip) look(false); });

  function follow(params) {
    show(params.get('run'));
    const model = Number(params.get('model'));
    if (open && params.has('problem') && Number.isInteger(model)) read(model, params.get('problem'));
  }
  address.watch(TAB, follow);
  follow(address.get(TAB));
  return () => {
    if (!props.value) return;
    const { open: id } = JSON.parse(props.value);
    if (id && id !== open) show(id);
    scrollToResult(element);
  };
}
