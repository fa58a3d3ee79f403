// @ts-check
// What tabs share: calls to the server, and polling while the page is seen.

const offline = () => ({ error: 'The server does not answer; check that it still runs, then reload.' });

// call(name, ...arguments): a promise of the server's answer. Gradio answers nothing when the connection is lost.
export const createCalls = (server) => async (name, ...args) => (await server[name](args).catch(offline)) || offline();

// Calls look() once per second while busy() holds, else every five seconds; not while the element is out of sight.
export function pollWhileVisible(element, busy, look) {
  let tick = 0;
  setInterval(() => {
    if (document.hidden || !element.getClientRects().length || tick++ % (busy() ? 1 : 5)) return;
    look();
  }, 1000);
}

// On a narrow screen the form is above the result: this brings the result into sight.
export function scrollToResult(element) {
  if (innerWidth <= 900) element.scrollIntoView({ behavior: 'smooth', block: 'start' });
}
