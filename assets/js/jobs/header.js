// The header's few words on the jobs: seen on every tab, a link to what runs. In scope: element, server.

function mountGlance(element, server) {
  const place = element.querySelector('.lr-glance');
  const link = el('a', { class: 'lr-pill', hidden: true });
  place.append(link);
  let timer = 0, busy = false;

  function draw(seen) {
    const now = seen.running, words = [];
    if (now) {
      words.push(now.state === 'stopping' ? '1 job stopping' : now.waiting_for ? '1 job waiting' : '1 job running');
      if (Number.isFinite(now.fraction)) words.push(share(now.fraction));
      if (now.eta >= 1) words.push(remaining(now.eta));
    }
    if (seen.busy) words.push('a job is running'); // all that a visitor is told
    if (seen.queued) words.push(seen.queued + ' queued');
    const text = words.join(' \u00b7 ');
    busy = !!text;
    link.hidden = !busy;
    if (!busy) return;
    const signs = now ? now.state : seen.busy ? 'running' : 'queued';
    if (link.dataset.state !== signs || link.lastChild.textContent !== text) {
      link.replaceChildren(stateSign(signs), el('span', { text }));
      link.dataset.state = signs;
    }
    if (seen.busy) return;
    link.setAttribute('href', now ? '?tab=jobs&job=' + now.id : '?tab=jobs');
    const holder = seen.holder ? 'On the accelerator: ' + seen.holder.who : 'The accelerator is free';
    link.title = (now ? now.title + '. ' : '') + holder + '.';
  }
  function later(seconds) { clearTimeout(timer); timer = setTimeout(ask, seconds * 1000); }
  async function ask() {
    if (document.hidden) return; // it asks again when it is looked at
    const seen = await server.glance([null]).catch(() => null);
    if (seen && !seen.error) draw(seen);
    later(busy ? 1 : 5);
  }
  document.addEventListener('visibilitychange', () => { if (!document.hidden) ask(); });
  window.addEventListener('lr-jobs', (event) => { draw(event.detail); later(busy ? 3 : 5); }); // the Jobs tab has just asked
  ask();
}
