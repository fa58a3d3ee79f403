// One job of the list: a line that can be opened. `update` changes what is there, so that focus and selection stay.

const ACTIONS = {
  first: { says: 'To the front', doing: 'Moving \u2026', title: 'Next in the queue' },
  up: { says: 'Move up', doing: 'Moving \u2026', title: 'Before the job that is ahead of it' },
  down: { says: 'Move down', doing: 'Moving \u2026', title: 'After the job that is behind it' },
  keep: { says: 'Stop and keep', doing: 'Stopping; what is there is kept \u2026', title: 'Ends at the next safe point, as succeeded, with what it has by then' },
  cancel: { says: 'Cancel', doing: 'Stopping \u2026', title: 'Ends within ten seconds; what is on disk stays' },
  resume: { says: 'Resume', doing: 'Queueing \u2026', title: 'Goes on where it stopped' },
  retry: { says: 'Run again', doing: 'Queueing a new job \u2026', title: 'A new job with the same settings, from the start, in a folder of its own' },
  delete: { says: 'Delete \u2026', doing: 'Deleting \u2026', title: 'Takes this job and its log off the list' },
};

const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const known = (x) => x !== null && x !== undefined && Number.isFinite(x);

function ordinal(n) { return n === 1 ? 'next in the queue' : n - 1 === 1 ? '1 job before it' : n - 1 + ' jobs before it'; }

// The line under the title: what it does, what it waits for, or how it ended.
function sentence(job) {
  if (job.state === 'queued') return ordinal(job.position || 1);
  if (job.state === 'stopping') return 'Stopping; within ten seconds it is gone';
  return job.state === 'running' ? job.status : job.message;
}

// What can be opened that the job made: [words, address], or null.
const MAKES = { sample: ['Open the dataset', 'datasets', 'dataset'], import: ['Open the dataset', 'datasets', 'dataset'], pull: ['Open the dataset', 'datasets', 'dataset'], finetune: ['Open the run', 'finetune', 'run'], evaluate: ['Open the evaluation', 'evaluate', 'run'] };
function made(job) {
  const [words, tab, name] = MAKES[job.verb] || [];
  if (!words || !job.made || !document.getElementById('lr-tab-' + tab + '-button')) return null;
  return [words, '?' + new URLSearchParams({ tab, [name]: job.run })];
}

function createJobRow(id, { toggle, act }) {
  const body = el('div', { class: 'lr-job-body', id: 'lr-job-' + id, hidden: true });
  const state = el('span', { class: 'lr-job-state' }), title = el('span', { class: 'lr-job-title' });
  const button = el('button', { type: 'button', class: 'lr-job-open', 'aria-expanded': 'false', 'aria-controls': body.id, onclick: () => toggle(id) }, title);
  const under = el('span', { class: 'lr-job-under lr-muted' });
  const fill = el('i', {}), track = el('div', { class: 'lr-job-track', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100' }, fill);
  const percentage = el('span', { class: 'lr-job-percent' });
  const bar = el('div', { class: 'lr-job-progress' }, track, percentage);
  const counted = el('span', {}), rate = el('span', { class: 'lr-muted' }), left = el('span', {}), when = el('span', { class: 'lr-muted' });
  const head = el('div', { class: 'lr-job-head' }, state, button, under, bar,
    el('div', { class: 'lr-job-counted' }, counted, rate), el('div', { class: 'lr-job-when' }, left, when));
  const node = el('li', { class: 'lr-job', 'data-id': id }, head, body);
  let view = null, pending = '', details = null;

  function update(job) {
    const before = view;
    view = job;
    pending = before && before.state === job.state && before.position === job.position ? pending : '';
    const words = STATES[job.state] || { word: job.state };
    if (node.dataset.state !== job.state) { node.dataset.state = job.state; state.replaceChildren(stateSign(job.state), el('span', { text: words.word })); }
    set(title, job.title);
    set(under, pending || sentence(job));
    const going = job.state === 'running' || job.state === 'stopping', part = known(job.fraction);
    bar.hidden = !part || job.state === 'succeeded' || job.state === 'queued';
    if (!bar.hidden) {
      fill.style.width = Math.min(100, job.fraction * 100).toFixed(2) + '%';
      track.setAttribute('aria-valuenow', Math.floor(job.fraction * 100));
      track.setAttribute('aria-label', 'Progress of ' + job.title);
      set(percentage, share(job.fraction));
    }
    set(counted, known(job.done) && job.state !== 'queued' ? figure(job.done) + (known(job.total) ? ' of ' + figure(job.total) : '') : '');
    set(rate, going ? pace(job.rate) : '');
    const took = known(job.elapsed) ? duration(job.elapsed) : '';
    set(left, going ? (job.eta >= 1 && job.state === 'running' ? remaining(job.eta) : '') : took && job.ended ? 'took ' + took : '');
    if (going) set(when, took ? took + ' so far' : '');
    else if (job.ended || job.created) { if (when.dataset.at !== String(job.ended || job.created)) when.replaceChildren(job.ended ? '' : 'queued ', timeNode(job.ended || job.created)); }
    when.dataset.at = going ? '' : String(job.ended || job.created);
  }
  // Open or closed; an open one has details, which come with every answer.
  function open(on) {
    if (on === !body.hidden) return;
    body.hidden = !on;
    button.setAttribute('aria-expanded', String(on));
    node.classList.toggle('lr-opened', on);
    details = on ? createJobDetails(id, doing) : null;
    body.replaceChildren(...(on ? [details.node] : []));
  }
  async function doing(action) {
    pending = ACTIONS[action].doing;
    set(under, pending);
    details.busy(true);
    const before = details, message = await act(id, action);
    if (message || !['keep', 'cancel'].includes(action) || !['running', 'stopping'].includes(view.state)) pending = ''; // done, or refused
    if (view) set(under, pending || sentence(view));
    before.busy(false);
    before.fail(message);
    if (!node.contains(document.activeElement) && node.isConnected && (!document.activeElement || document.activeElement === document.body)) button.focus();
  }
  return { node, update, open, focus: () => button.focus(), details: (job, log) => { details.update(job); if (log !== undefined) details.log(log); } };
}
