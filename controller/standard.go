package controller

// standard lists the controllers in the order of their work within a Settle.
func standard(Config) []Controller {
	return nil
}
