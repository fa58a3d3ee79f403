// @ts-check
// The Fine-tune tab on the Gradio page.
import { address } from '../shared/address.js';
import { createErrorBox, downloadFrom, el, setText } from '../shared/dom.js';
import { formatTime } from '../shared/format.js';
import { createCalls, pollWhileVisible, scrollToResult } from '../shared/poll.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { createComparison } from './compare.js';
import { createTuning } from './run.js';

const MOST_COMPARED = 6; // as many lines as can be told apart

export function mount({ element, props, trigger, server }) {
  const TAB = 'finetune';
  let open = null, compared = [], seen = {}, looked = 0, busy = false, renewed = null, wanted = null, active = false;
  const call = createCalls(server);

  const hintToCompare = el('span', { class: 'lr-muted', role: 'status' });
  let several = false;
  const list = createRunList({ title: 'Runs', label: 'Fine-tuning runs', running: 'Training', aside: hintToCompare,
    onOpen: show, facts: (run) => [run.facts], before: (run) => several && checkbox(run) });
  const comparison = createComparison({ onClose: () => { compare([]); list.node.querySelector('input')?.focus(); } });
  const run = createTuning({
    act: async (name) => { const answer = await call('act', open, name); look(true); return answer; },
    remove: async () => {
      const answer = await call('discard', open);
      if (answer.error) return answer;
      compared = compared.filter((id) => id !== open);
      show(null);
      (list.node.querySelector('button') || document.getElementById('lr-tab-finetune-button')).focus();
      return answer;
    },
    push: (kind, form) => call('push', open, kind, form), pushed: () => call('pushed', open),
    merge: async () => { const answer = await call('merge', open); look(true); return answer; },
    download: async (kind) => {
      const answer = await call('prepare', open, kind);
      if (!answer.error) downloadFrom(answer.url, answer.name);
      return answer;
    },
  });
  const empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }),
    ...props.intro.sentences.map((text) => el('p', { text })),
    el('a', { class: 'lr-job-made', href: '?tab=datasets', text: 'Go to Datasets' }));
  const hint = el('p', { class: 'lr-muted lr-hint', hidden: true,
    text: 'Select a run to see its curves, or tick some to compare them.' });
  const error = createErrorBox();
  const root = element.querySelector('.lr-root');
  root.classList.add('lr', 'lr-data', 'lr-tuning');
  root.replaceChildren(error.node, list.node, hint, empty, comparison.node, run.node);

  function checkbox({ id, name, created }) {
    const checked = compared.includes(id), full = !checked && compared.length >= MOST_COMPARED;
    const change = () => compare(box.checked ? [...compared, id] : compared.filter((other) => other !== id));
    const box = el('input', { type: 'checkbox', 'data-id': id, 'data-key': 'compare-' + id, disabled: full,
      'aria-label': 'Compare ' + name + ', ' + formatTime(created), onchange: change,
      title: full ? 'At most ' + MOST_COMPARED + ' can be compared' : 'Compare' });
    box.checked = checked;
    return el('label', { class: 'lr-tick-box' }, box);
  }
  function showList(runs) {
    const n = compared.length;
    several = runs.length > 1;
    list.show(runs, open, compared);
    setText(hintToCompare, !several ? '' : n === 1 ? 'Tick another one to compare' : n ? n + ' compared'
      : 'Tick two or more to compare');
  }

  function writeAddress() {
    address.set(TAB, { run: open, compare: compared.length ? compared.join() : null,
      dataset: null, alpha: null, beta: null, selector: null });
  }
  function show(id) {
    if (id !== open) run.begin();
    open = id;
    delete seen.open;
    writeAddress();
    look(true);
  }
  function compare(ids) {
    compared = ids.slice(0, MOST_COMPARED);
    delete seen.compared;
    if (compared.length < 2) comparison.hide();
    writeAddress();
    look(true);
  }

  // The state of the list and of what is open; curves come again only when they changed.
  async function look(all) {
    if (document.hidden || !element.getClientRects().length || (busy && !all)) return; // it asks again when it is seen
    busy = true;
    const mine = (looked += all ? 1 : 0), answer = await call('overview', open, compared.length > 1 ? compared : [],
      seen);
    busy = false;
    if (mine !== looked) return; // a later request is on its way
    error.show(answer.error);
    if (!answer.runs) return;
    active = answer.runs.some((r) => isActive(r.state)) ||
      !!(answer.open && answer.open.merge && answer.open.merge.busy);
    showList(answer.runs);
    empty.hidden = answer.runs.length > 0 || !!answer.error;
    hint.hidden = !answer.runs.length || !!open || compared.length > 1;
    if (answer.compared && !answer.compared.unchanged) showCompared(answer.compared);
    if (answer.open) {
      if (answer.open.unchanged && run.data) run.showState(answer.open);
      else { seen.open = answer.open.version; run.show(answer.open); }
    } else if (open && answer.error) run.begin();
    if (renewed !== answer.renew || wanted) {
      renewed = answer.renew;
      trigger('renew', wanted || {});
      wanted = null;
    }
  }
  function showCompared(found) {
    comparison.show(found);
    if (found.missing.length) {
      compared = compared.filter((id) => !found.missing.includes(id));
      writeAddress();
    } else seen.compared = found.version;
  }
  pollWhileVisible(element, () => active, () => look(false));
  window.addEventListener('lr-tab', (event) => { if (event.detail === TAB) requestAnimationFrame(() => look(true)); });

  function follow(params) {
    // the selection made with the dataset, in the explorer, comes along
    const selected = ['dataset', 'alpha', 'beta', 'selector'].filter((name) => params.get(name));
    if (params.get('dataset')) wanted = Object.fromEntries(selected.map((name) => [name, params.get(name)]));
    compared = (params.get('compare') || '').split(',').filter(Boolean).slice(0, MOST_COMPARED);
    if (compared.length < 2) comparison.hide();
    seen = {};
    show(params.get('run') || null);
  }
  address.watch(TAB, follow);
  follow(address.get(TAB));
  return () => {
    if (!props.value) return;
    show(JSON.parse(props.value).open);
    scrollToResult(element);
  };
}
