//! Builds the image a microVM boots.
