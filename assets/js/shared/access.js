// Public servers only. window.lrVisitor: whoever looks has not signed in as the owner. Only looks depend on it.
window.lrVisitor = !/(^|; )lr_role=owner(;|$)/.test(document.cookie);
if (!window.lrVisitor) document.documentElement.classList.add('lr-owner');
