// @ts-check
// The state of the jobs in the page's header: seen on every tab, a link to the running job.
import { el } from '../shared/dom.js';
import { formatProgress, formatRemaining } from '../shared/format.js';
import { createNews, wanted } from './notices.js';
import { stateSign } from './states.js';

export function mount({ element, server }) {
  const place = element.querySelector('.lr-header-status');
  const link = el('a', { class: 'lr-pill', hidden: true });
  place.append(link);
  let timer = 0, busy = false;
  const news = createNews();

  function draw({ running: job, busy: hidden, queued, holder }) { // hidden: a visitor learns only that a job runs
    const texts = [];
    if (job) {
      texts.push(job.state === 'stopping' ? '1 job stopping' : job.waiting_for ? '1 job waiting' : '1 job running');
      if (Number.isFinite(job.fraction)) texts.push(formatProgress(job.fraction));
      if (job.eta >= 1) texts.push(formatRemaining(job.eta));
    }
    if (hidden) texts.push('a job is running');
    if (queued) texts.push(queued + ' queued');
    const text = texts.join(' · ');
    busy = !!text;
    link.hidden = !busy;
    if (!busy) return;
    const state = job ? job.state : hidden ? 'running' : 'queued';
    if (link.dataset.state !== state || link.lastChild.textContent !== text) {
      link.replaceChildren(stateSign(state), el('span', { text }));
      link.dataset.state = state;
    }
    if (hidden) return;
    link.setAttribute('href', job ? '?tab=jobs&job=' + job.id : '?tab=jobs');
    link.title = (job ? job.title + '. ' : '') + (holder ? 'On the accelerator: ' +
      holder.who : 'The accelerator is free') + '.';
  }
  function later(seconds) { clearTimeout(timer); timer = setTimeout(ask, seconds * 1000); }
  async function ask() {
    if (document.hidden && !wanted()) return; // it asks again when the page is seen
    const answer = await server.header_status([null]).catch(() => null);
    if (answer && !answer.error) {
      draw(answer);
      if (answer.ended) news(answer.ended);
    }
    later(busy ? 1 : 5);
  }
  document.addEventListener('visibilitychange', () => { if (!document.hidden) ask(); });
  window.addEventListener('lr-jobs', (/** @type {CustomEvent} */ event) => { // the Jobs tab has just asked
    draw(event.detail);
    news(event.detail.ended);
    later(busy ? 3 : 5);
  });
  ask();
}
