// Public servers only. window.lrVisitor: the user is not signed in as the owner. This only hides parts of the page.
window.lrVisitor = !/(^|; )lr_role=owner(;|$)/.test(document.cookie);
if (!window.lrVisitor) document.documentElement.classList.add('lr-owner');
